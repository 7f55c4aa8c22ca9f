"""Training photos in memory: a few thousand small pictures fit on the device as bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.images import OWN_FILES, load_square
from rissole.data.sources import Item, open_source


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
    """Reads a folder of pictures, a parquet file, or a folder of parquet files.

    Args:
        source: parquet needs an `image` or `img` column as the `datasets` library writes it; a
            `label` column, or one folder per class, gives the classes.
        size: side of the square the pictures are cropped and resized to, in pixels.
        limit: read only so many.

    Returns:
        What could be read. Files that are no pictures are named on stderr and skipped.

    Raises:
        RissoleError: when there is nothing to read.
    """
    photos, labels, bad = [], [], []
    for item in _items(Path(source), limit):
        try:
            picture = load_square(item.data or b"", size, OWN_FILES)
        except RissoleError as error:
            bad.append(str(error))
            continue
        photos.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        labels.append(item.label)
    if not photos:
        reason = f": {bad[0]}" if bad else ""
        raise RissoleError(f"no pictures found in {source}{reason}")
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)
    classes = sorted({label for label in labels if label is not None})
    number = {name: i for i, name in enumerate(classes)} | {None: -1}
    return Labelled(torch.stack(photos), torch.tensor([number[x] for x in labels]), classes)


def load_photos(source: str | Path, size: int, limit: int | None = None) -> Tensor:
    """The photos of `load_labelled` alone, uint8 (N, 3, size, size)."""
    return load_labelled(source, size, limit).photos


def split(photos: Tensor, held_out: float = 0.05) -> tuple[Tensor, Tensor]:
    """Splits off every n-th photo, so that the same photos are held out in every stage.

    Of fewer than n the last one, so that there always is something to measure with.
    """
    every = max(2, min(round(1 / held_out), len(photos)))
    mask = torch.arange(len(photos)) % every == every - 1
    return photos[~mask], photos[mask]


def portion(size: int, device: str) -> int:
    """How many photos of `size` pixels an autoencoder takes at a time on a device."""
    return 4 if device == "cpu" and size > 64 else 64  # more outgrows a CPU's caches


def to_float(photos: Tensor) -> Tensor:
    """Photos as float32 in [-1, 1]: uint8 is rescaled, floats pass."""
    return photos.float() / 127.5 - 1 if photos.dtype == torch.uint8 else photos.float()


def _items(source: Path, limit: int | None) -> Iterator[Item]:
    """Pictures of a local source under a progress bar; training never reads from the Hub."""
    if not source.exists():
        raise RissoleError(f"no folder of pictures and no parquet file: {source}")
    pictures = open_source(source)
    total = pictures.total if limit is None else min(limit, pictures.total or limit)
    bar = tqdm(pictures.items(), "reading photos", total, leave=False, disable=None)
    return islice(bar, limit)
