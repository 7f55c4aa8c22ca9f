"""Stage `few-steps`: a flow map learns of the denoiser to paint in one to eight steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rissole.config import RissoleError, quoted
from rissole.training.hyperparameters import FewStepsTraining, Share, check_schedule
from rissole.training.stage import STAGES, Job, Stage


@dataclass(frozen=True)
class FewStepsSettings(FewStepsTraining):
    """Settings of the stage.

    Attributes:
        start: preset whose network the student starts as, such as rissole-small; the teacher, the
            run's denoiser, by default.
        schedule: part of the learning-rate schedule, for training in sessions.
    """

    start: str = ""
    schedule: tuple[Share, Share] = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self.schedule)


@STAGES.register
class FewStepsStage(Stage):
    """Distills the run's denoiser; the gallery's setting `paint_with` makes a bundle of it."""

    name = "few-steps"
    help = "paint in few steps, as the denoiser would in many."
    settings = FewStepsSettings
    needs = ("latents", "denoiser")
    reads_photos = False
    shared = True

    def target(self, run: Path, settings: FewStepsSettings) -> Path:
        """A folder, another one for a student that starts as another network."""
        return run / "-".join(filter(None, (self.name, settings.start)))

    def prepare(self, job: Job, settings: FewStepsSettings) -> None:
        """Refuses to start as a network that is not there."""
        super().prepare(job, settings)
        if settings.start and not (path := job.run / settings.start).is_dir():
            raise RissoleError(f"{path} is missing: train --preset {quoted(settings.start)} first")

    def run(self, job: Job, settings: FewStepsSettings) -> dict[str, Any]:
        """Writes the flow map."""
        from rissole.models.denoiser import Denoiser
        from rissole.training.flow_map import train_flow_map
        from rissole.training.neighborhoods import read_latents

        teacher, out = Denoiser.load(job.run / "denoiser"), self.target(job.run, settings)
        start = Denoiser.load(job.run / settings.start) if settings.start else None
        student = train_flow_map(
            teacher, read_latents(job.run), out, job.budget, start=start, settings=settings,
            schedule=settings.schedule, device=job.device, seed=job.seed,
        )  # fmt: skip
        return {"parameters": sum(weights.numel() for weights in student.parameters())}
