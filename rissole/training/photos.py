"""Training photos in memory: a few thousand small pictures fit on the device as bytes."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.images import load_image, square
from rissole.sources import SUFFIXES


def load_photos(source: str | Path, size: int, limit: int | None = None) -> Tensor:
    """Reads a folder of pictures, a parquet file, or a folder of parquet files.

    Args:
        source: parquet needs an `image` or `img` column as the `datasets` library writes it.
        size: side of the square the pictures are cropped and resized to, in pixels.
        limit: read only so many.

    Returns:
        uint8 tensor (N, 3, size, size). Files that are no pictures are named on stderr and skipped.

    Raises:
        RissoleError: when there is nothing to read.
    """
    photos, bad = [], []
    bar = tqdm(_blobs(Path(source))[:limit], desc="reading photos", leave=False, disable=None)
    for blob in bar:
        try:
            picture = load_image(io.BytesIO(blob) if isinstance(blob, bytes) else blob)
        except RissoleError as error:
            bad.append(str(error))
            continue
        photos.append(torch.from_numpy(np.array(square(picture, size))).permute(2, 0, 1))
    if not photos:
        reason = f": {bad[0]}" if bad else ""
        raise RissoleError(f"no pictures found in {source}{reason}")
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)
    return torch.stack(photos)


def split(photos: Tensor, held_out: float = 0.05) -> tuple[Tensor, Tensor]:
    """Splits off every n-th photo, so that the same photos are held out in every stage."""
    every = max(2, round(1 / held_out))
    mask = torch.arange(len(photos)) % every == every - 1
    return photos[~mask], photos[mask]


def to_float(photos: Tensor) -> Tensor:
    """uint8 photos as floats in [-1, 1]."""
    return photos.float().div(127.5).sub(1)


def _blobs(source: Path) -> list[bytes | Path]:
    if source.is_dir():
        parquet = sorted(source.glob("*.parquet"))
        if not parquet:
            return sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    elif source.suffix == ".parquet" and source.exists():
        parquet = [source]
    else:
        raise RissoleError(f"no folder of pictures and no parquet file: {source}")
    return [blob for path in parquet for blob in _parquet_blobs(path)]


def _parquet_blobs(path: Path) -> list[bytes]:
    import pyarrow.parquet as parquet

    names = parquet.read_schema(path).names
    column = next((n for n in ("image", "img") if n in names), None)
    if column is None:
        raise RissoleError(f"{path.name} has no column named image or img")
    return [row["bytes"] for row in parquet.read_table(path, columns=[column])[column].to_pylist()]
