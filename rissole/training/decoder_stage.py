"""Stage `decoder`: sharpens the decoder of an autoencoder; latents stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rissole.training.hyperparameters import DecoderTraining
from rissole.training.stage import STAGES, Job, Stage, state_file


@STAGES.register
class DecoderStage(Stage):
    """Trains the decoder alone."""

    name = "decoder"
    help = "sharpens what latents decode to; latents stay."
    settings = DecoderTraining
    needs = ("autoencoder",)
    uses = ("critic",)

    def target(self, run: Path, settings: DecoderTraining) -> Path:
        """The state of its training: what it writes is the autoencoder's."""
        return state_file(run / self.name)

    def state(self, run: Path, settings: DecoderTraining) -> Path:
        """The same."""
        return self.target(run, settings)

    def run(self, job: Job, settings: DecoderTraining) -> dict[str, Any]:
        """Changes the folder `autoencoder`."""
        from rissole.evaluation.network import FeatureNetwork
        from rissole.training.sharpening import train_decoder

        path = job.run / "critic.safetensors"
        return train_decoder(
            job.photos.photos, job.run / "autoencoder", job.budget, settings=settings,
            critic=FeatureNetwork.open(path) if path.exists() else None,
            device=job.device, seed=job.seed,
        )  # fmt: skip
