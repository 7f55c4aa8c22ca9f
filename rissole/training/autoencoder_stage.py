"""Stage `autoencoder`: pictures to latents and back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.training.hyperparameters import CodecTraining
from rissole.training.stage import CELLS, STAGES, Job, Stage

FACTOR = 4  # pixels per latent cell, along one side, of the autoencoder that is trained
HALVED = 8  # a side is a multiple of it, and twice as long at least: pictures are moved so far


@dataclass(frozen=True)
class AutoencoderSettings(CodecTraining):
    """Settings of the stage.

    Attributes:
        space: "latent" trains an autoencoder; "pixel" only measures the scale of the photos, which
            are then painted as they are.
    """

    space: str = "latent"

    def __post_init__(self) -> None:
        if self.space not in ("latent", "pixel"):
            raise RissoleError(f"--space must be latent or pixel, not {self.space!r}")


@STAGES.register
class AutoencoderStage(Stage):
    """Trains the autoencoder, or measures what stands in for it."""

    name = "autoencoder"
    help = "pictures to latents and back."
    settings = AutoencoderSettings
    shared = True

    def state(self, run: Path, settings: AutoencoderSettings) -> Path | None:
        """Of the autoencoder; pixels need none."""
        return None if settings.space == "pixel" else super().state(run, settings)

    def prepare(self, job: Job, settings: AutoencoderSettings) -> None:
        """Refuses sizes that cannot be halved, and to do without what judges pictures.

        Warns of sizes that do not cut into blocks.
        """
        super().prepare(job, settings)
        pixels = settings.space == "pixel"
        if not pixels and (job.size % HALVED or job.size < 2 * HALVED):
            rule = f"a multiple of {HALVED}, {2 * HALVED} at least"
            raise RissoleError(f"--size must be {rule}, not {job.size}")
        if job.size % (whole := CELLS * (1 if pixels else FACTOR)):
            note = f"note: denoisers paint only sizes that are multiples of {whole}"
            print(note, file=sys.stderr)
        if not pixels and settings.perceptual:
            from rissole.evaluation.lite import weights_file

            weights_file("lite0")

    def run(self, job: Job, settings: AutoencoderSettings) -> dict[str, Any]:
        """Writes the folder `autoencoder`."""
        photos, out = job.photos.photos, self.target(job.run, settings)
        if settings.space == "pixel":
            from rissole.data.photos import split
            from rissole.models.autoencoder import Codec, PixelSpace

            codec = Codec(PixelSpace.fit(split(photos)[0]))
            codec.save(out)
            return {"latent_scale": codec.scale, "latent_shift": codec.shift}
        from rissole.training.reconstruction import train_autoencoder

        return train_autoencoder(
            photos, out, job.budget, settings=settings, device=job.device, seed=job.seed
        )
