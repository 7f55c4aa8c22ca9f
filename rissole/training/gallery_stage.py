"""Stage `gallery`: paint the pictures to retrieve from, and write the finished bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.training.hyperparameters import GallerySettings
from rissole.training.stage import STAGES, Job, Stage


@STAGES.register
class GalleryStage(Stage):
    """Paints, chooses, and writes the bundle."""

    name = "gallery"
    help = "paint the pictures to retrieve from, and write the finished model to OUT/bundle."
    settings = GallerySettings
    needs = ("autoencoder", "features", "latents", "denoiser")
    uses = ("defects",)

    def target(self, run: Path, settings: GallerySettings) -> Path:
        """The bundle."""
        return run / "bundle"

    def state(self, run: Path, settings: Any) -> None:
        """Nothing to go on from."""

    def prepare(self, job: Job, settings: GallerySettings) -> None:
        """Refuses to paint with a network that is not there, or without what chooses."""
        from rissole.training.defects import DefectJudges, defect_files

        super().prepare(job, settings)
        if defect_files(job.run):
            DefectJudges.open(job.run, "cpu")
        if not (path := job.run / settings.paint_with).exists():
            raise RissoleError(f"{path} is missing: run --stage {settings.paint_with} first")

    def run(self, job: Job, settings: GallerySettings) -> dict[str, Any]:
        """Writes the bundle, named as the run."""
        from rissole.training.gallery import paint_gallery, write_gallery_bundle

        latents, classes, figures = paint_gallery(
            job.run, job.photos.photos, settings, device=job.device, seed=job.seed
        )
        write_gallery_bundle(
            job.run, latents, self.target(job.run, settings), name=job.run.name,
            label=settings.label, classes=classes, paint_with=settings.paint_with,
        )  # fmt: skip
        return figures
