"""Stage `polish`: a network of few steps learns to look like the photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rissole.config import RissoleError, quoted
from rissole.training.hyperparameters import PolishTraining, Share, check_schedule
from rissole.training.stage import STAGES, Job, Stage

USUAL = "few-steps"


@dataclass(frozen=True)
class PolishSettings(PolishTraining):
    """Settings of the stage.

    Attributes:
        start: folder of the run that holds the network of few steps.
        schedule: part of the learning-rate schedule, for training in sessions.
    """

    start: str = USUAL
    schedule: tuple[Share, Share] = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule(self.schedule)


@STAGES.register
class PolishStage(Stage):
    """Trains the run's network of few steps against a discriminator."""

    name = "polish"
    help = "paint in few steps what passes for a photo."
    settings = PolishSettings
    needs = ("autoencoder", "latents")
    uses = (USUAL, "defects")
    reads_photos = False
    shared = True

    def target(self, run: Path, settings: PolishSettings) -> Path:
        """A folder, another one for another network."""
        more = "" if settings.start == USUAL else f"-{settings.start}"
        return run / f"{self.name}{more}"

    def prepare(self, job: Job, settings: PolishSettings) -> None:
        """Refuses what is no network of few steps, and to do without what judges pictures."""
        from rissole.evaluation.lite import weights_file
        from rissole.training.defects import defect_file, defect_files

        super().prepare(job, settings)
        if not (path := job.run / settings.start).is_dir():
            raise RissoleError(f"{path} is missing: run --stage {USUAL} first")
        if not _flow_map(path):
            raise RissoleError(f"start: {quoted(settings.start)} is no network of few steps")
        weights_file("lite0")
        if settings.defects and not defect_files(job.run):
            path = defect_file(job.run)
            raise RissoleError(f"{path} is missing: run --stage defects first, or set defects to 0")

    def run(self, job: Job, settings: PolishSettings) -> dict[str, Any]:
        """Writes the flow map."""
        from rissole.models.autoencoder import Codec
        from rissole.models.denoiser import Denoiser
        from rissole.training.defects import DefectJudges
        from rissole.training.neighborhoods import read_latents
        from rissole.training.polishing import polish_flow_map

        known = DefectJudges.open(job.run, job.device) if settings.defects else None
        student = polish_flow_map(
            Denoiser.load(job.run / settings.start), Codec.load(job.run / "autoencoder"),
            read_latents(job.run), self.target(job.run, settings), job.budget, defects=known,
            settings=settings, schedule=settings.schedule, device=job.device, seed=job.seed,
        )  # fmt: skip
        return {"parameters": sum(weights.numel() for weights in student.parameters())}


def _flow_map(folder: Path) -> bool:
    from rissole.models.denoiser import Denoiser

    return Denoiser.load(folder).flow_map
