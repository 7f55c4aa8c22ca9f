"""Stage `defects`: learn from people's grades which pictures have a clear defect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.training.hyperparameters import DefectSettings
from rissole.training.stage import STAGES, Job, Stage


@STAGES.register
class DefectsStage(Stage):
    """Fits a linear layer to grades; `polish` and `gallery` avoid what it finds."""

    name = "defects"
    help = "learn from the grades of --stage samples which pictures have a clear defect."
    settings = DefectSettings
    needs = ("autoencoder", "latents", "samples")
    reads_photos = False

    def target(self, run: Path, settings: DefectSettings) -> Path:
        """A file in the run's folder, another one for each kind of defects."""
        from rissole.training.defects import defect_file

        return defect_file(run, settings.about)

    def state(self, run: Path, settings: Any) -> None:
        """Nothing to go on from."""

    def prepare(self, job: Job, settings: DefectSettings) -> None:
        """Refuses to do without grades, or without what looks at pictures."""
        from rissole.evaluation.lite import weights_file
        from rissole.training.samples import read_samples

        super().prepare(job, settings)
        for folder in self._folders(job, settings):
            read_samples(folder, settings.about)
        weights_file("lite0")

    def run(self, job: Job, settings: DefectSettings) -> dict[str, Any]:
        """Writes the file."""
        import torch

        from rissole.training.defects import defect_network, fit_defects
        from rissole.training.samples import Graded, read_samples, reconstructions

        folders = self._folders(job, settings)
        each = [read_samples(folder, settings.about) for folder in folders]
        if len({graded.images.shape[1:] for graded in each}) > 1:
            raise RissoleError("more: the folders hold pictures of different sizes")
        graded = Graded(*(torch.cat(parts) for parts in zip(*each, strict=True)))
        network = defect_network(None, job.device)
        photos = reconstructions(job.run, settings.photos, job.device)
        judge, figures = fit_defects(
            network, graded.images, graded.defects, photos, settings.region, job.seed
        )
        judge.save(self.target(job.run, settings), figures)
        strict = graded.defects[graded.photos].float()
        return figures | ({"defects_of_photos": strict.mean().item()} if len(strict) else {})

    def _folders(self, job: Job, settings: DefectSettings) -> list[Path]:
        return [job.run / "samples", *(Path(folder) for folder in settings.more)]
