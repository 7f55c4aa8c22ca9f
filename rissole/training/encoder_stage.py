"""Stage `encoder`: a query encoder of one's own, which may be left out."""

from __future__ import annotations

from typing import Any

from rissole.training.hyperparameters import EncoderTraining
from rissole.training.stage import STAGES, Job, Stage


@STAGES.register
class EncoderStage(Stage):
    """Trains the encoder, and compares it with latents where that is possible."""

    name = "encoder"
    help = "finds neighbors in place of the latents, may be left out."
    settings = EncoderTraining
    uses = ("autoencoder", "features")

    def run(self, job: Job, settings: EncoderTraining) -> dict[str, Any]:
        """Writes the folder `encoder`."""
        from rissole.training.neighbor_learning import train_encoder

        photos, out = job.photos, self.target(job.run, settings)
        result: dict[str, Any] = train_encoder(
            photos.photos, out, job.budget, settings=settings, device=job.device, seed=job.seed
        )
        if (job.run / "features.safetensors").exists() and (job.run / "autoencoder").is_dir():
            result |= self._quality(job)
        return result

    def _quality(self, job: Job) -> dict[str, Any]:
        """How good the neighbors are that it finds, next to latents and chance."""
        from rissole.data.photos import split
        from rissole.evaluation.neighbors import neighbor_quality
        from rissole.evaluation.network import FeatureNetwork
        from rissole.models.autoencoder import Codec
        from rissole.retrieval.embedding import LatentEmbedding
        from rissole.retrieval.encoders import LatentEncoder, LearnedEncoder
        from rissole.training.neighborhoods import encode_photos

        photos, labels, classes = job.photos
        codec = Codec.load(job.run / "autoencoder")
        embedding = LatentEmbedding.fit(encode_photos(codec, split(photos)[0][:2048], job.device))
        own = LearnedEncoder.load(job.run / "encoder").to(job.device)
        judge = FeatureNetwork.open(job.run / "features.safetensors", job.device)
        encoders = (LatentEncoder(embedding), own)
        return neighbor_quality(photos, codec, encoders, judge, labels=labels if classes else None)
