"""How near a picture is to the photos that its network was trained on, without those photos."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rissole.models.saving import one_line, read_config_of, read_tensors, save_with_config
from rissole.storage.schema import FLOATS, parse

FILE = "training-photos.safetensors"  # of a bundle
CELLS = 4


@dataclass(frozen=True)
class PhotosConfig:
    """What is stored beside the numbers: `cells`, see `TrainingPhotos`."""

    cells: Annotated[int, Field(ge=1, le=8)]


class Nearness(NamedTuple):
    """How near a picture is to training photos.

    Attributes:
        photos: how many it was compared with.
        distance: to the nearest or its mirror image, root mean square difference of their numbers.
        nearer: share of held-out photos that have a nearer one, from 0 to 1.
    """

    photos: int
    distance: float
    nearer: float


class TrainingPhotos:
    """The mean latent of every sixteenth of each training photo: too little to see a photo again.

    Args:
        means: (M, C * cells * cells).
        usual: (Q,) distances, from small to large, of held-out photos to the nearest of these.
        cells: side of the grid that latents are averaged over.
    """

    def __init__(self, means: Tensor, usual: Tensor, cells: int = CELLS):
        self.means, self.usual, self.cells = means.float(), usual.float(), cells

    @classmethod
    def fit(cls, latents: Tensor, held_out: Tensor, cells: int = CELLS) -> TrainingPhotos:
        """Measures latents (M, C, S, S) of training photos, and those (Q, C, S, S) of others."""
        means = _means(latents, cells).half().float()  # as they are stored
        return cls(means, _distances(held_out, means, cells).sort().values.half(), cells)

    def nearness(self, latents: Tensor) -> Nearness:
        """Of one picture, by its latent (1, C, S, S)."""
        distance = _distances(latents, self.means, self.cells)[:1]
        nearer = (self.usual < distance).double().mean().item()
        return Nearness(len(self.means), distance.item(), nearer)

    def told(self, latents: Tensor) -> dict[str, Any]:
        """The same as the page says it, with what is usual of held-out photos."""
        count, distance, nearer = self.nearness(latents)
        told = {"count": f"{count:,}", "distance": f"{distance:.2f}"}
        usual = f"{self.usual.median().item():.2f}"
        return told | {"nearer": math.floor(100 * nearer + 0.5), "usual": usual}

    def save(self, folder: str | Path) -> None:
        """Writes `training-photos.safetensors`."""
        tensors = {"means": self.means.half(), "usual": self.usual.half()}
        save_with_config(tensors, Path(folder) / FILE, {"cells": self.cells})

    @classmethod
    def load(cls, folder: str | Path, channels: int) -> TrainingPhotos | None:
        """Reads what `save` wrote; None where nothing was.

        Args:
            folder: of the bundle.
            channels: of its latents.

        Raises:
            RissoleError: when the file is damaged or odd.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        with one_line("training photos", path):
            config = parse(json.dumps(read_config_of(path)), PhotosConfig, "config")
            shapes = {
                "means": (FLOATS, (None, channels * config.cells**2)),
                "usual": (FLOATS, (None,)),
            }
            tensors = read_tensors(path, shapes)
            if not all(len(one) for one in tensors.values()):
                raise ValueError("it holds no photo")
            return cls(tensors["means"], tensors["usual"], config.cells)


def _means(latents: Tensor, cells: int) -> Tensor:
    return F.adaptive_avg_pool2d(latents.float(), cells).flatten(1)


def _distances(latents: Tensor, means: Tensor, cells: int) -> Tensor:
    """Of pictures (B, C, S, S) to the nearest of `means` (M, D): (B,)."""
    both = [_means(some, cells) for some in (latents, latents.flip(-1))]
    # not by the product of matrices, whose rounding would keep copies away from 0
    near = [torch.cdist(one, means, compute_mode="donot_use_mm_for_euclid_dist") for one in both]
    return torch.stack(near).amin((0, 2)) / means.shape[1] ** 0.5
