"""What a database holds of each picture: its latent, its thumbnail, its class, its vectors.

A database of any pictures that do not fit into memory is written by `rissole.retrieval.building`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from rissole.data.images import to_pil, to_tensor
from rissole.models.autoencoder import Codec
from rissole.retrieval import index as vectors
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LatentEncoder, QueryEncoder
from rissole.storage.database_facts import DatabaseFacts, EncoderMark, VectorFacts, check_classes
from rissole.storage.files import save_tensors
from rissole.storage.manifest import LARGE
from rissole.storage.schema import check_tensors

WEBP_QUALITY = 88
NO_CLASS = -1
LATENTS, THUMBNAILS, LABELS, INDEX = (
    "latents.safetensors",
    "thumbnails.safetensors",
    "labels.safetensors",
    "index.faiss",
)


class Contents(NamedTuple):
    """What a database holds beside its index.

    Attributes:
        latents: (N, C, S, S), a tensor or what reads its rows from a file.
        webp: uint8, WebP files end to end; a tensor or what reads parts of it from a file.
        offsets: int64 (N + 1,), where each file begins and the last one ends.
        classes: int32 (N,), numbers into the names of the classes, or `NO_CLASS`.
    """

    latents: Any
    webp: Any
    offsets: Tensor
    classes: np.ndarray

    @classmethod
    def of(cls, latents: Tensor, webp: Sequence[bytes]) -> Contents:
        """Of pictures in memory, none of which has a class.

        Args:
            latents: (N, C, S, S) of the pictures.
            webp: their thumbnails, see `to_webp`.
        """
        return cls(
            latents=latents.half().contiguous(),
            webp=torch.from_numpy(np.frombuffer(b"".join(webp), np.uint8).copy()),
            offsets=torch.tensor([0, *np.cumsum([len(data) for data in webp])]),
            classes=np.full(len(webp), NO_CLASS, np.int32),
        )

    @classmethod
    def open(cls, folder: Path, count: int, names: int) -> Contents:
        """Maps the files of a database into memory.

        Args:
            folder: of the database.
            count: its pictures, as it says itself.
            names: how many classes it names.

        Raises:
            ValueError: when one is odd, latents that are not finite among them where reading them
                takes no time; OSError and SafetensorError when it cannot be read.
        """
        pictures = safe_open(folder / LATENTS, "pt")
        check_tensors(pictures, {"latents": (("F16",), (count, None, None, None))})
        latents = pictures.get_slice("latents")
        if (folder / LATENTS).stat().st_size < LARGE and not latents[:].isfinite().all():
            raise ValueError("odd latents: not finite (NaN or infinity)")
        thumbnails = safe_open(folder / THUMBNAILS, "pt")
        wanted = {"data": (("U8",), (None,)), "offsets": (("I64",), (count + 1,))}
        check_tensors(thumbnails, wanted)
        offsets, webp = thumbnails.get_tensor("offsets"), thumbnails.get_slice("data")
        if offsets[0] < 0 or offsets[-1] > webp.get_shape()[0] or (offsets.diff() < 0).any():
            raise ValueError("odd thumbnails: the files do not lie end to end")
        return cls(latents, webp, offsets, _labels(folder / LABELS, count, names))

    def write(self, folder: Path) -> None:
        """Writes latents and thumbnails; classes are written by `write_classes`."""
        save_tensors({"latents": self.latents}, folder / LATENTS)
        save_tensors({"data": self.webp, "offsets": self.offsets}, folder / THUMBNAILS)

    @property
    def latents_shape(self) -> tuple[int, ...]:
        """(N, C, S, S)."""
        whole = isinstance(self.latents, Tensor)
        return tuple(self.latents.shape if whole else self.latents.get_shape())


def _labels(path: Path, count: int, names: int) -> np.ndarray:
    """The class of each picture; a database without that file has none."""
    if not path.is_file():
        return np.full(count, NO_CLASS, np.int32)
    file = safe_open(path, "np")
    check_tensors(file, {"labels": (("I32",), (count,))})
    labels: np.ndarray = file.get_tensor("labels")
    if labels.min() < NO_CLASS or labels.max() >= names:
        raise ValueError("odd labels: a class without a name")
    return labels


def build_database(
    folder: str | Path,
    images: Sequence[Image.Image],
    codec: Codec,
    embedding: LatentEmbedding | QueryEncoder,
    label: str,
    latents: Tensor | None = None,
    classes: Sequence[str | None] | None = None,
) -> None:
    """Writes a database of square pictures of one size that fit into memory into a folder.

    Args:
        images: RGB pictures.
        embedding: what they are found by.
        label: what they are, for people.
        latents: (N, C, S, S) when they are known; encoded from the pictures otherwise.
        classes: the class of each, None for those without.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = LatentEncoder(embedding) if isinstance(embedding, LatentEmbedding) else embedding
    if latents is None:
        latents = torch.cat([codec.encode(to_tensor(image)) for image in images])
    latents, pixels = latents.half(), to_tensor(images)
    with torch.inference_mode():
        parts = [encoder(p, z) for p, z in zip(pixels.split(64), latents.split(64), strict=True)]
    made = torch.cat(parts).cpu().numpy()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = pool.map(to_webp, images)
        bar = tqdm(files, "thumbnails", len(images), False, unit="picture", disable=None, delay=1)
        Contents.of(latents, list(bar)).write(folder)
    DatabaseFacts(
        count=len(images),
        label=label,
        image_size=images[0].width,
        encoder=EncoderMark(encoder.name, encoder.id),
        index=vectors.build(folder / INDEX, parts_of(made), len(made), encoder.dim),
        classes=tuple(write_classes(folder, classes)) if classes is not None else (),
    ).write(folder)


def write_classes(folder: Path, classes: Sequence[str | None]) -> list[str]:
    """Writes `labels.safetensors` and returns the names of the classes, in alphabetical order.

    Raises:
        RissoleError: when there are too many.
    """
    names = sorted({name for name in classes if name is not None})
    check_classes(len(names))
    number = {name: i for i, name in enumerate(names)}
    numbers = [NO_CLASS if name is None else number[name] for name in classes]
    save_tensors({"labels": torch.tensor(numbers, dtype=torch.int32)}, folder / LABELS)
    return names


def write_encoder(folder: Path, encoder: QueryEncoder, made: np.ndarray) -> None:
    """Writes the vectors (N, dim) of one more encoder as an index with the encoder's id."""
    folder.mkdir(parents=True, exist_ok=True)
    index = vectors.build(folder / INDEX, parts_of(made), len(made), encoder.dim)
    VectorFacts(EncoderMark(encoder.name, encoder.id), index).write(folder)


def parts_of(made: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
    """Vectors (N, dim) that may be memory-mapped, as `index.build` wants them: part by part."""

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, len(made), vectors.CHUNK):
            yield made[start : start + vectors.CHUNK]

    return parts


def to_webp(image: Image.Image) -> bytes:
    """A WebP file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def decode_all(codec: Codec, latents: Tensor, batch: int = 32) -> list[Image.Image]:
    """Pictures of latents (N, C, S, S)."""
    return [image for part in latents.split(batch) for image in to_pil(codec.decode(part.float()))]
