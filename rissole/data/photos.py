"""Training photos in memory: a few thousand small pictures fit on the device as bytes."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.items import LeftOut, nothing_in, summary
from rissole.data.reading import read_square
from rissole.data.sources import open_source


class Labelled(NamedTuple):
    """Photos and what they show.

    Attributes:
        photos: uint8 (N, 3, S, S).
        labels: int64 (N,), numbers into `classes`; -1 for photos without a class.
        classes: names in alphabetical order; empty when the source knows none.
    """

    photos: Tensor
    labels: Tensor
    classes: list[str]


def load_labelled(source: str | Path, size: int, limit: int | None = None) -> Labelled:
    """Reads photos, see `open_source`; a data set of the Hub is kept in the library's cache.

    Args:
        source: a folder, a parquet file, or `owner/name` of a data set on the Hub. A column of
            labels, or one folder per class, gives the classes.
        size: side of the square the pictures are cropped and resized to, in pixels.
        limit: read only so many.

    Returns:
        What could be read. What is left out is told on stderr, with the reason.

    Raises:
        RissoleError: when there is nothing to read.
    """
    pictures = open_source(source, kept=True)
    photos, labels, left_out = [], [], [*pictures.left_out]
    total = pictures.total if limit is None else min(limit, pictures.total or limit)
    bar = tqdm(pictures.items(), "reading photos", total, leave=False, disable=None)
    for item in islice(bar, limit):
        picture = read_square(item, size)
        if isinstance(picture, LeftOut):
            left_out.append(picture)
            continue
        photos.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        labels.append(item.label)
    if not photos:
        raise RissoleError(nothing_in(pictures.name, left_out))
    if told := summary(left_out, f"rissole index {source} --dry-run"):
        print(told, file=sys.stderr)
    classes = sorted({label for label in labels if label is not None})
    number = {name: i for i, name in enumerate(classes)} | {None: -1}
    return Labelled(torch.stack(photos), torch.tensor([number[x] for x in labels]), classes)


def load_photos(source: str | Path, size: int, limit: int | None = None) -> Tensor:
    """The photos of `load_labelled` alone, uint8 (N, 3, size, size)."""
    return load_labelled(source, size, limit).photos


def split(photos: Tensor, held_out: float = 0.05) -> tuple[Tensor, Tensor]:
    """Splits off every n-th photo, so that the same photos are held out in every stage.

    Of fewer than n the last one, so that there always is something to measure with.

    Raises:
        RissoleError: for fewer than 2, of which none could be held out.
    """
    if len(photos) < 2:
        raise RissoleError("at least 2 photos are needed: one is held out to measure with")
    every = max(2, min(round(1 / held_out), len(photos)))
    mask = torch.arange(len(photos)) % every == every - 1
    return photos[~mask], photos[mask]


def portion(size: int, device: str) -> int:
    """How many photos of `size` pixels an autoencoder takes at a time on a device."""
    return 4 if device == "cpu" and size > 64 else 64  # more outgrows a CPU's caches


def to_float(photos: Tensor) -> Tensor:
    """Photos as float32 in [-1, 1]: uint8 is rescaled, floats pass."""
    return photos.float() / 127.5 - 1 if photos.dtype == torch.uint8 else photos.float()
