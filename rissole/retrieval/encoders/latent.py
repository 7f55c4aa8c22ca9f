"""Encoders that compare latents: always there, and nothing to load."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders.base import BundleParts, QueryEncoder, digest


class LatentEncoder(QueryEncoder):
    """The whole latent, pooled, relative to the average picture; always there."""

    name = "latent"
    label = "Alike as a whole"
    kept = False

    def __init__(self, embedding: LatentEmbedding):
        self.embedding, self.dim = embedding, embedding.dim
        self.id = f"latent-{digest([embedding.mean, torch.tensor(embedding.cells)])}"

    @classmethod
    def from_bundle(cls, bundle: BundleParts) -> LatentEncoder:
        """See `QueryEncoder`."""
        return cls(bundle.embedding)

    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """See `QueryEncoder`."""
        return self.embedding(latents)


class CornerEncoder(QueryEncoder):
    """The latent of the top-left block of a 2x2 grid, as RISSOLE was published (2408.17095)."""

    name = "latent-corner"
    label = "Alike at the top left, as published"
    kept = False

    def __init__(self, latent_channels: int, latent_size: int):
        self.side = latent_size // 2
        self.dim = latent_channels * self.side**2
        self.id = f"latent-corner-{latent_channels}x{self.side}x{self.side}"

    @classmethod
    def from_bundle(cls, bundle: BundleParts) -> CornerEncoder:
        """See `QueryEncoder`."""
        return cls(*bundle.latent_shape[:2])

    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """See `QueryEncoder`."""
        return F.normalize(latents[..., : self.side, : self.side].float().flatten(1), dim=1)
