"""What a query and a database entry are compared by."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from rissole.models.saving import one_line, read_with_config, save_with_config

FILE = "embedding.safetensors"


class LatentEmbedding:
    """The latent, averaged over a coarse grid, relative to the average picture.

    Subtracting the mean makes cosine similarity tell pictures apart: without it all cats are alike.

    Args:
        mean: (C * cells * cells,) average of the pooled training latents.
        cells: side of the coarse grid.
    """

    def __init__(self, mean: Tensor, cells: int = 8):
        self.mean, self.cells = mean.float(), cells

    @classmethod
    def fit(cls, latents: Tensor, cells: int = 8) -> LatentEmbedding:
        """Measures the mean over latents (N, C, S, S)."""
        return cls(_pool(latents, cells).mean(0).cpu(), cells)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return len(self.mean)

    def __call__(self, latents: Tensor) -> Tensor:
        """Unit vectors (B, dim) of latents (B, C, S, S)."""
        return F.normalize(_pool(latents, self.cells) - self.mean.to(latents.device), dim=1)

    def save(self, folder: str | Path) -> None:
        """Writes `embedding.safetensors`."""
        save_with_config({"mean": self.mean}, Path(folder) / FILE, {"cells": self.cells})

    @classmethod
    def load(cls, folder: str | Path) -> LatentEmbedding:
        """Reads what `save` wrote.

        Raises:
            RissoleError: when the file is missing or damaged.
        """
        path = Path(folder) / FILE
        with one_line("embedding", path):
            tensors, config = read_with_config(path)
            return cls(tensors["mean"], **config)


def _pool(latents: Tensor, cells: int) -> Tensor:
    return F.adaptive_avg_pool2d(latents.float(), cells).flatten(1)
