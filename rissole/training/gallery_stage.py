"""Stage `gallery`: paint the pictures to retrieve from, and write the finished bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

<<<<<<< HEAD
from rissole.training.hyperparameters import GallerySettings
from rissole.training.stage import STAGES, Job, Stage
=======
import numpy as np
import torch
from diffusers import SchedulerMixin
from torch import Tensor
from tqdm import tqdm

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, RissoleError
from rissole.data.photos import split
from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import nearest, thumbnails, with_mirror
from rissole.evaluation.network import FeatureNetwork, to_bytes
from rissole.loading import fast_dtype, write_bundle
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.retrieval.database import build_database, decode_all
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LearnedEncoder
from rissole.sampling import Plan, canvas_noise, paint
from rissole.storage.manifest import write_manifest
from rissole.storage.staging import staged
from rissole.training.latents_stage import read_latents

DEFAULTS = {
    "order": "parallel",
    "grid": 4,
    "num_inference_steps": NUM_INFERENCE_STEPS,
    "guidance_scale": GUIDANCE_SCALE,
    "k": 8,
}
>>>>>>> house


@STAGES.register
class GalleryStage(Stage):
    """Paints, chooses, and writes the bundle."""

    name = "gallery"
    help = "paint the pictures to retrieve from, and write the finished model to OUT/bundle."
    settings = GallerySettings
    needs = ("autoencoder", "features", "latents", "denoiser")

    def target(self, run: Path, settings: GallerySettings) -> Path:
        """The bundle."""
        return run / "bundle"

    def state(self, run: Path, settings: Any) -> None:
        """Nothing to go on from."""

    def run(self, job: Job, settings: GallerySettings) -> dict[str, Any]:
        """Writes the bundle, named as the run."""
        from rissole.training.gallery import paint_gallery, write_gallery_bundle

        latents, classes, figures = paint_gallery(
            job.run, job.photos.photos, settings, device=job.device, seed=job.seed
        )
        write_gallery_bundle(
            job.run, latents, self.target(job.run, settings), name=job.run.name,
            label=settings.label, classes=classes,
        )  # fmt: skip
        return figures
