"""A flow map learns to take the guided denoiser's many steps at once.

The student is the denoiser with two more inputs: where its step ends, and how much guidance is
wanted. It predicts the mean velocity from its level t to the end s (arXiv 2505.13447); where s = t
that is the teacher's velocity. It learns from itself: from t the guided teacher takes one small
step to r (Heun's method), the student's own answer, held fixed, leads on from r to s, and the
student shall reach the same place at once.

Segments of many calls, which learn sooner, lead the way.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import State
from rissole.training.hyperparameters import FewStepsTraining
from rissole.training.lessons import Lessons, Maps, drawing, fit_flow_map
from rissole.training.situations import Sampler, make_sampler
from rissole.training.teaching import Scene, Teacher, grown, moved, recordable
from rissole.training.trainer import Budget, generator_for, seeded


class Distiller(Lessons):
    """What a teacher shows, and the student itself where the teacher has gone on.

    Args:
        teacher: in the precision it works in.
        student: a flow map that starts as the teacher.
        sampler: draws pictures and neighbors.
        maps: of the sampler's pictures, by the teacher.
        settings: of the stage.
        own: the same by a student that starts as another network.
    """

    settings: FewStepsTraining

    def __init__(
        self,
        teacher: Teacher,
        student: Denoiser,
        sampler: Sampler,
        maps: Maps,
        settings: FewStepsTraining,
        own: Maps | None = None,
    ):
        super().__init__(student, sampler, own or maps, settings)
        self.teacher, self.shown = teacher, maps
        self.gap.fill_(settings.gap[0])

    def follow(self, progress: float) -> None:
        """Shortens the teacher's step, too."""
        super().follow(progress)
        first, last = self.settings.gap
        done = min(1.0, progress / self.settings.gap_until)
        self.gap.fill_(first * (last / first) ** done)

    def between(self, start: Tensor, end: Tensor) -> Tensor:
        """Where the teacher's small steps end."""
        return torch.maximum(start - self.gap, end)

    @torch.no_grad()
    def target(
        self,
        state: State,
        known: NeighborFeatures,
        ids: Tensor,
        scene: Scene,
        level: Tensor,
        end: Tensor,
    ) -> Tensor:
        """The canvas (B, C, S, S) that the teacher's step, and the student's rest, lead to."""
        features = self.shown.features(self.teacher.model, ids)
        first = self.teacher.velocity(state, features, scene)
        second = self.teacher.velocity(moved(state, scene, level, first), features, scene)
        between = moved(state, scene, level, (first + second) / 2)
        rest = self.velocity(between, known, scene, end)
        return moved(between, scene, end, rest).canvas


def distiller(
    teacher: Denoiser,
    start: Denoiser | None,
    sampler: Sampler,
    settings: FewStepsTraining,
    device: str,
    seed: int,
) -> Distiller:
    """A student that starts as the teacher, or as another network, and who teaches it."""
    half = torch.bfloat16 if device.startswith("cuda") else torch.float32
    first = start or teacher
    student: Any = seeded(lambda: recordable(grown(first, flow_map=True)), seed).to(device)
    student.requires_grad_(True).neighbors.requires_grad_(False)
    taught = recordable(deepcopy(teacher)).requires_grad_(False).to(device, half)
    maps = Maps(taught, sampler.latents)
    own = None if start is None else Maps(student, sampler.latents)
    return Distiller(Teacher(taught, settings.negative), student, sampler, maps, settings, own)


def train_flow_map(
    teacher: Denoiser,
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    start: Denoiser | None = None,
    settings: FewStepsTraining | None = None,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
) -> Denoiser:
    """Makes a flow map of a trained denoiser and writes it to `out`.

    Run again on the same folder, it goes on where it stopped.

    Args:
        teacher: the denoiser.
        data: of `make_latents`.
        out: folder of the network.
        budget: of this session.
        start: a trained denoiser, perhaps a smaller one, that the student starts as; the teacher by
            default.
        settings: of the stage.
        schedule: the part of the learning-rate schedule that the budget covers.
        device: where to train.
        seed: of weights, batches and noise.
    """
    settings = settings or FewStepsTraining()
    generator = generator_for(seed + int(1000 * schedule[0]), device)
    sampler = make_sampler(data, "", drawing(settings), generator, device)
    work = distiller(teacher, start, sampler, settings, device, seed)
    return fit_flow_map(work, out, budget, schedule, seed)
