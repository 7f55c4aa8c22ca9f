"""Stage `denoiser`: the block denoiser, or what it is compared with.

The block denoiser is trained on every situation it will meet. One picture of the batch may be
painted by all blocks in step, another block after block, a third repaired in one place, a fourth by
blocks that do not see each other; on a 4x4, 2x2 or 1x1 grid; with one to all of its neighbors, or
none. The loss counts on every cell of a window that carries the block's own noise level, not only
on the block: four times the signal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.training.hyperparameters import DenoiserTraining, Share, check_schedule
from rissole.training.stage import STAGES, Job, Stage


@dataclass(frozen=True)
class DenoiserSettings(DenoiserTraining):
    """Settings of the stage.

    Attributes:
        preset: a method's name.
        start: folder of a trained denoiser to go on from, such as OTHER_RUN/denoiser, where the run
            has the same autoencoder; one of few steps becomes one of many.
        schedule: part of the learning-rate schedule, for training in sessions.
        model: settings of the network.
    """

    preset: str = "rissole"
    start: str = ""
    schedule: tuple[Share, Share] = (0.0, 1.0)
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self.schedule)


def folder(preset: str) -> str:
    """Where in a run a method's network lies."""
    return "denoiser" if preset == "rissole" else preset


@STAGES.register
class DenoiserStage(Stage):
    """Trains a method on the latents of an earlier stage."""

    name = "denoiser"
    help = "paint blocks."
    settings = DenoiserSettings
    needs = ("latents",)
    reads_photos = False
    shared = True

    def target(self, run: Path, settings: DenoiserSettings) -> Path:
        """A folder of the method's name."""
        return run / folder(settings.preset)

    def prepare(self, job: Job, settings: DenoiserSettings) -> None:
        """Refuses unknown methods and settings that their networks do not have."""
        from rissole.training import denoising  # noqa: F401 - it registers the block denoiser
        from rissole.training.method import METHODS

        METHODS[settings.preset]().config(settings.model)
        if settings.start and (settings.preset != self.settings.preset or settings.model):
            raise RissoleError("start: the network has settings, leave out --preset and model")
        super().prepare(job, settings)

    def run(self, job: Job, settings: DenoiserSettings) -> dict[str, Any]:
        """Trains, together with other processes where there are some."""
        from rissole.models.denoiser import Denoiser
        from rissole.training.denoising import train_denoiser
        from rissole.training.method import METHODS
        from rissole.training.neighborhoods import read_latents

        return train_denoiser(
            read_latents(job.run), self.target(job.run, settings), job.budget,
            method=METHODS[settings.preset](), model=settings.model, settings=settings,
            start=Denoiser.load(settings.start) if settings.start else None,
            schedule=settings.schedule, device=job.device, seed=job.seed,
        )  # fmt: skip
