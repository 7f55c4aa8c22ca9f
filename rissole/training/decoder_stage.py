"""Stage `decoder`: sharpens the decoder of an autoencoder; latents stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rissole.training.autoencoder_stage import CodecTraining
from rissole.training.stage import STAGES, Job, Share, Stage, state_file


@dataclass(frozen=True)
class DecoderTraining(CodecTraining):
    """Settings of the stage, besides those of every autoencoder.

    Attributes:
        gradients, features, discriminator: weights of terms of the loss; feature matching has ten
            times the discriminator's weight.
    """

    peak_rate: Share = 2e-4
    gradients: Share = 0.1
    features: Share = 0.1
    discriminator: Share = 0.01


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
