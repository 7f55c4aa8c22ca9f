"""From pictures of a source to rows of a database: decoded, encoded, ready to be written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rissole.data.images import to_tensor
from rissole.data.items import Item, LeftOut
from rissole.data.reading import read_square
from rissole.models.autoencoder import Codec
from rissole.retrieval.contents import to_webp
from rissole.retrieval.encoders import QueryEncoder

BATCH = 16  # pictures dealt with together


@dataclass(frozen=True)
class IndexingParts:
    """What of a pipeline it takes to make a database that fits it.

    Attributes:
        codec: makes the latents.
        encoders: make the vectors; the first one's are the database's own index.
        image_size: side of a picture in pixels.
        latent_shape: (C, S, S).
        made_for: fingerprint of what makes latents and vectors; a database carries it.
        device: where the models compute.
        dtype: bfloat16 takes half the time and changes a latent by 0.005 of its spread.
    """

    codec: Codec
    encoders: Sequence[QueryEncoder]
    image_size: int
    latent_shape: tuple[int, ...]
    made_for: str
    device: torch.device
    dtype: torch.dtype = torch.float32


class Picture(NamedTuple):
    """A picture on its way into the database."""

    number: int
    name: str
    label: str | None
    image: Image.Image


class Row(NamedTuple):
    """What the database keeps of one picture.

    Attributes:
        number: its place in the source.
        name: for messages.
        label: its class.
        latent: (C, S, S), half precision.
        vectors: (dim,) of each encoder.
        webp: its thumbnail, a file.
        digest: 16 bytes that stand for its pixels.
    """

    number: int
    name: str
    label: str | None
    latent: np.ndarray
    vectors: list[np.ndarray]
    webp: bytes
    digest: bytes


def read_picture(numbered: tuple[int, Item], size: int) -> Picture | LeftOut:
    """Decodes an item of a source, with its number, as a square of `size` pixels."""
    number, item = numbered
    read = read_square(item, size)
    return read if isinstance(read, LeftOut) else Picture(number, item.name, item.label, read)


def encode_pictures(
    parts: IndexingParts, pictures: Sequence[Picture], pool: Executor
) -> Iterator[Row]:
    """Latents, vectors and thumbnails of pictures; a batch of none is none."""
    if not pictures:
        return
    images = [picture.image for picture in pictures]
    webp = pool.map(to_webp, images)
    pixels = to_tensor(images).to(parts.device)
    latents = _latents(parts, pixels)
    with torch.inference_mode():
        made = [encoder(pixels, latents).cpu().numpy() for encoder in parts.encoders]
    stored = latents.cpu().half().numpy()
    for i, (picture, data) in enumerate(zip(pictures, webp, strict=True)):
        own = [vectors[i] for vectors in made]
        digest = hashlib.sha256(picture.image.tobytes()).digest()[:16]
        yield Row(picture.number, picture.name, picture.label, stored[i], own, data, digest)


def _latents(parts: IndexingParts, pixels: Tensor) -> Tensor:
    """Latents of pictures, in the precision the pipeline computes in."""
    low, device = parts.dtype == torch.bfloat16, parts.device.type
    few = 4 if device == "cpu" else BATCH  # more would outgrow a CPU's caches
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
        return torch.cat([parts.codec.encode(part).float() for part in pixels.split(few)])
