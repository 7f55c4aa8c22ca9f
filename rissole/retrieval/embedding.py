"""What a query and a database entry are compared by."""

from __future__ import annotations

import json
from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rissole.config import RissoleError
from rissole.storage.files import save_tensors


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
        # one key only: with several, their order in the file, and so its hash, is random
        meta = {"config": json.dumps({"cells": self.cells})}
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_tensors({"mean": self.mean}, Path(folder) / "embedding.safetensors", metadata=meta)

    @classmethod
    def load(cls, folder: str | Path) -> LatentEmbedding:
        """Reads what `save` wrote.

        Raises:
            RissoleError: when the file is missing or damaged.
        """
        path = Path(folder) / "embedding.safetensors"
        try:
            with safe_open(path, "pt") as file:
                return cls(file.get_tensor("mean"), **json.loads(file.metadata()["config"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RissoleError(f"no usable embedding in {path.parent.name}/: {error}") from error


def _pool(latents: Tensor, cells: int) -> Tensor:
    return F.adaptive_avg_pool2d(latents.float(), cells).flatten(1)
