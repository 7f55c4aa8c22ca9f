"""What a flow map is taught on: pictures, parts of their way from noise, and its own answers.

Segments (t, s) come from the schedules of 1 to 20 calls. The student predicts the mean velocity
from its level t to the end s (arXiv 2505.13447). Errors are measured on the canvas that all windows
are blended to, so that the blocks learn to agree.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rissole.blocks import per_cell
from rissole.loading import half_precision
from rissole.models.denoiser import Denoiser, NeighborFeatures
from rissole.models.interface import Aims, State
from rissole.models.scheduler import flow_map_levels
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import DenoiserTraining, FlowMapTraining
from rissole.training.learner import Average, Trained
from rissole.training.situations import Sampler
from rissole.training.snapshots import Snapshots
from rissole.training.stage import state_folder
from rissole.training.teaching import Scene, canvas_velocity, moved
from rissole.training.trainer import Budget, History, Trainer

# kinds of steps: all blocks in parallel, or in all situations; and the grid
KINDS = {"4x4": 4, "mixed": 4, "2x2": 2, "1x1": 1}
HUBER = 0.00054  # where a pseudo-Huber loss turns from squares to lengths (arXiv 2310.14189)
FAST = 0.03  # the first part of a segment that no start lies in


def pseudo_huber(error: Tensor) -> Tensor:
    """Of mean squared errors: squares where they are tiny, lengths beyond."""
    return (error + HUBER**2).sqrt() - HUBER


class Maps:
    """The neighbor encoder's maps of all pictures, made once: it is not trained on.

    Args:
        model: whose encoder it is.
        latents: (N, C, S, S) of the pictures.
        batch: pictures to encode at a time.
    """

    def __init__(self, model: Denoiser, latents: Tensor, batch: int = 256):
        dtype = next(model.parameters()).dtype
        with torch.no_grad():
            made = [model.neighbors(part[:, None].to(dtype)) for part in latents.split(batch)]
        self.fine, self.coarse = (
            torch.cat([x.squeeze(3) for x in maps]) for maps in zip(*made, strict=True)
        )

    def features(self, model: Denoiser, ids: Tensor) -> NeighborFeatures:
        """What a network's attentions make of pictures (B, K)."""
        fine, coarse = (x[ids].permute(0, 2, 3, 1, 4) for x in (self.fine, self.coarse))
        return model.project(fine, coarse)


class Segments:
    """Steps (start, end) of the schedules to learn, and how often each is drawn."""

    def __init__(self, settings: FlowMapTraining, device: str):
        pairs: list[tuple[float, float]] = []
        early, late = [], []
        rows = zip(settings.calls, settings.early, settings.late, strict=True)
        for calls, first, then in rows:
            pairs += itertools.pairwise(flow_map_levels(calls).tolist())
            early += [first / calls] * calls
            late += [then / calls] * calls
        self.starts, self.ends = torch.tensor(pairs, device=device).T
        self.tables = [torch.tensor(x, device=device).cumsum(0) for x in (early, late)]
        self.table = self.tables[0].clone()
        self.switch = settings.switch

    def follow(self, progress: float) -> None:
        """Draws by the early or the late shares from now on."""
        self.table.copy_(self.tables[progress >= self.switch])

    def draw(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Starts and ends (B,) for uniform numbers (B,)."""
        found = torch.searchsorted(self.table, numbers * self.table[-1])
        found = found.clamp(max=len(self.table) - 1)
        return self.starts[found], self.ends[found]


class Lessons(ABC):
    """The losses of a flow map, one for each kind of step.

    Args:
        student: a flow map.
        sampler: draws pictures and neighbors.
        maps: of the sampler's pictures, by the student.
        settings: of the stage.

    Attributes:
        gap: how far the first part of a target leads; errors are weighed by it.
    """

    def __init__(self, student: Denoiser, sampler: Sampler, maps: Maps, settings: FlowMapTraining):
        self.student, self.maps, self.settings = student, maps, settings
        self.samplers = {kind: copy(sampler) for kind in KINDS}
        for kind, drawing in self.samplers.items():
            chosen = settings.mixed if kind == "mixed" else (1.0, 0.0, 0.0, 0.0, 0.0)
            drawing.settings = replace(sampler.settings, situations=chosen)
        self.device = str(sampler.latents.device)
        self.segments = Segments(settings, self.device)
        self.gap = torch.tensor(0.1, device=self.device)

    def follow(self, progress: float) -> None:
        """Chooses the segments for a share of the time, in tensors, which recorded steps read."""
        self.segments.follow(progress)

    def learn(self, kind: str, index: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of a batch (B,)."""
        loss = self.loss(kind, index)
        loss.backward()
        return {"loss": loss.detach()}

    def loss(self, kind: str, index: Tensor) -> Tensor:
        """How far the student is from where it shall be: of one batch (B,)."""
        sampler, grid = self.samplers[kind], KINDS[kind]
        start, level, end = self.times(sampler, len(index))
        clean = sampler.latents[index].float()
        state, _, active = sampler.state(clean, grid, start[:, None])
        ids, scene = self.scene(kind, index, active)
        with self.half():
            features = self.maps.features(self.student, ids)
            target = self.target(state, features, ids, scene, level, end)
            reached = moved(state, scene, end, self.velocity(state, features, scene, end)).canvas
        cells = per_cell(active.view(-1, grid, grid).float(), clean.shape[-1])[:, None]
        error = ((reached - target).square() * cells).sum((1, 2, 3))
        mean = error / (cells.sum((1, 2, 3)) * clean.shape[1]).clamp(min=1)
        weight = self.gap / (start - level).clamp(min=0.01)
        return (weight * pseudo_huber(mean)).mean()

    def half(self) -> torch.autocast:
        """bfloat16 where the device computes in it."""
        return half_precision(torch.device(self.device))

    def times(self, sampler: Sampler, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where a step starts, where a first part of it ends, where it ends: (B,) each."""
        high, end = self.segments.draw(sampler.rand(count))
        start = end + (high - end) * (FAST + (1 - FAST) * sampler.rand(count))
        start = torch.where(sampler.rand(count) < self.settings.start_share, high, start)
        return start, self.between(start, end), end

    @abstractmethod
    def between(self, start: Tensor, end: Tensor) -> Tensor:
        """Where the first part of a target ends, for steps between levels (B,)."""

    @abstractmethod
    def target(
        self,
        state: State,
        known: NeighborFeatures,
        ids: Tensor,
        scene: Scene,
        level: Tensor,
        end: Tensor,
    ) -> Tensor:
        """The canvas (B, C, S, S) that the student shall reach from a state.

        Args:
            known: what the student knows of the neighbors.
            ids: (B, K) numbers of the neighbors.
            level: (B,), where the first part ends.
            end: (B,), where the step ends.
        """

    def scene(self, kind: str, index: Tensor, active: Tensor) -> tuple[Tensor, Scene]:
        """Numbers of the neighbors (B, K), and the rest of what pictures (B,) are taught on."""
        sampler, grid = self.samplers[kind], KINDS[kind]
        b, known = len(index), self.settings.neighbors
        hood = sampler.hood(index, grid)
        any_of = (sampler.rand(*hood.ids.shape) * len(sampler.pool)).long()
        foreign = sampler.rand(b, 1, 1) < self.settings.foreign
        extra = torch.arange(hood.ids.shape[1], device=index.device) >= known
        hood = hood._replace(ids=torch.where(extra & foreign[:, 0], any_of, hood.ids))
        clean, near = sampler.latents[index].float(), sampler.pool[hood.ids].float()
        wish = (2 * sampler.rand(b, grid, grid)).clamp(max=1)
        strength = sampler.strength(clean, near, hood)
        if self.settings.told:
            strength = torch.where(hood.own & foreign, wish, strength)
        low, high = self.settings.guidance
        guidance = low + (high - low) * sampler.rand(b)
        return hood.ids, Scene(hood.visible, active, strength, guidance, kind != "mixed")

    def velocity(
        self,
        state: State,
        features: NeighborFeatures,
        scene: Scene,
        end: Tensor,
        model: Denoiser | None = None,
    ) -> Tensor:
        """The mean velocity (B, C, S, S) from a state to levels (B,): the student's by default."""
        active = scene.active.view_as(state.levels)
        ends = torch.where(active, end[:, None, None], state.levels)
        aims = Aims(ends, scene.guidance, scene.strength)
        return canvas_velocity(model or self.student, state._replace(aims=aims), features, scene)


def fit_flow_map(
    work: Lessons,
    out: Path,
    budget: Budget,
    schedule: tuple[float, float],
    seed: int,
    others: Mapping[str, Trained] | None = None,
) -> Denoiser:
    """Trains the student, goes on where an earlier session stopped, and writes it to `out`.

    Args:
        work: its losses.
        out, budget, schedule, seed: of the stage.
        others: modules that are trained beside it.
    """
    settings, sampler = work.settings, next(iter(work.samplers.values()))
    student: Any = work.student
    how = Trained(student, settings.peak_rate, average=Average((settings.decay**4,), every=4))
    trainer = Trainer(
        {"model": how, **(others or {})}, sampler.generator, state_folder(out), schedule=schedule,
        seed=seed, follow=work.follow,
    )  # fmt: skip
    Snapshots(trainer, out, (settings.decay,), settings.snapshots)

    def keep(history: History) -> None:
        student.save(out)
        write_json(out / "minutes.json", {"minutes": trainer.minutes})
        write_json(out / f"training-{schedule[1]:g}.json", {"history": history})

    losses = [partial(work.learn, kind) for kind in KINDS]
    trainer.fit(losses, sampler.batches, budget, keep, shares=settings.kinds, title=out.name)
    return student.eval()


def drawing(settings: FlowMapTraining) -> DenoiserTraining:
    """How pictures and neighbors are drawn: as they are painted, not augmented."""
    return DenoiserTraining(
        batch_size=settings.batch_size,
        neighbors=settings.neighbors,
        drop=settings.drop,
        all_shown=0.5,
        own=settings.own,
        told=settings.told,
    )
