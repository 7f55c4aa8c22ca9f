"""What a query and a database entry are compared by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rissole.models.saving import one_line, read_config_of, read_tensors, save_with_config
from rissole.storage.schema import FLOATS, parse

FILE = "embedding.safetensors"


@dataclass(frozen=True)
class EmbeddingConfig:
    """What is stored beside the mean: `cells`, see `LatentEmbedding`."""

    cells: Annotated[int, Field(ge=1, le=64)]


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
            config = parse(json.dumps(read_config_of(path)), EmbeddingConfig, "config")
            mean = read_tensors(path, {"mean": (FLOATS, (None,))})["mean"]
            if not len(mean) or len(mean) % config.cells**2:
                raise ValueError(f"{len(mean)} numbers do not fit {config.cells} cells a side")
            return cls(mean, config.cells)


def _pool(latents: Tensor, cells: int) -> Tensor:
    return F.adaptive_avg_pool2d(latents.float(), cells).flatten(1)
