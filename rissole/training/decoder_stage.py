"""Stage `decoder`: sharpens the decoder of an autoencoder; latents stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rissole.training.hyperparameters import DecoderTraining
from rissole.training.stage import STAGES, Job, Stage, check_cut, state_folder


@STAGES.register
class DecoderStage(Stage):
    """Trains the decoder alone."""

    name = "decoder"
    help = "sharpens what latents decode to; latents stay."
    settings = DecoderTraining
    needs = ("autoencoder",)
    shared = True

    def target(self, run: Path, settings: DecoderTraining) -> Path:
        """Its checkpoints: what it writes is the autoencoder's."""
        return state_folder(run / self.name)

    def state(self, run: Path, settings: DecoderTraining) -> Path:
        """The same."""
        return self.target(run, settings)

    def prepare(self, job: Job, settings: DecoderTraining) -> None:
        """Refuses sizes that no denoiser paints, and to do without what judges pictures."""
        from rissole.evaluation.lite import weights_file

        super().prepare(job, settings)
        check_cut(job)
        weights_file("lite0")

    def run(self, job: Job, settings: DecoderTraining) -> dict[str, Any]:
        """Changes the folder `autoencoder`."""
        from rissole.training.sharpening import train_decoder

        return train_decoder(
            job.photos.photos, job.run / "autoencoder", job.budget, settings=settings,
            device=job.device, seed=job.seed,
        )  # fmt: skip
