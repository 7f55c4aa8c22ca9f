"""The database of pictures that guide the painting: data, not weights.

A folder holds `database.json` (count, label, sizes), `index.faiss` (unit vectors, inner product),
`latents.safetensors` (read row by row, never whole) and `thumbnails.safetensors` (WebP files laid
end to end, with their offsets). It is part of a bundle, or stands alone with its own manifest.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from rissole.autoencoder import Codec
from rissole.config import MAX_NEIGHBORS, RissoleError, whole_number
from rissole.embedding import LatentEmbedding
from rissole.images import to_pil, to_tensor

WEBP_QUALITY = 88


@dataclass(frozen=True)
class Hits:
    """Retrieved neighbors.

    Attributes:
        ids: database ids, the nearest first.
        scores: cosine similarity of each.
        images: their pictures.
        query: the picture that was searched with.
        item: the query's own id, when it came from the database.
    """

    ids: list[int]
    scores: list[float]
    images: list[Image.Image]
    query: Image.Image | None = None
    item: int | None = None


class Database:
    """Pictures, their latents and an index over their embeddings. Safe to share among threads."""

    def __init__(self, folder: str | Path, fingerprint: str):
        """Opens a verified folder.

        Args:
            folder: where `build_database` wrote.
            fingerprint: stands for the contents of all its files.

        Raises:
            RissoleError: when files are missing, damaged or do not belong together.
        """
        self.folder, self.fingerprint = Path(folder), fingerprint
        try:
            self.info = json.loads((self.folder / "database.json").read_text())
            self.index = faiss.read_index(str(self.folder / "index.faiss"))
            self._latents = safe_open(self.folder / "latents.safetensors", "pt")
            self._thumbs = safe_open(self.folder / "thumbnails.safetensors", "pt")
            self._offsets = self._thumbs.get_tensor("offsets").tolist()
            shape = self._latents.get_slice("latents").get_shape()
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RissoleError(f"no usable database in {self.folder.name}/: {reason}") from error
        counts = {self.index.ntotal, shape[0], len(self._offsets) - 1, self.info["count"]}
        if len(counts) != 1:
            raise RissoleError(f"the files of database {self.folder.name}/ differ in length")

    def __len__(self) -> int:
        return self.index.ntotal

    @property
    def label(self) -> str:
        """What the pictures are, for people."""
        return self.info["label"]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, S, S) of one entry."""
        return tuple(self._latents.get_slice("latents").get_shape()[1:])

    def check(self, ids: Iterable[int]) -> None:
        """Raises RissoleError when an id is not in the database."""
        for i in ids:
            if not 0 <= i < len(self):
                raise RissoleError(
                    f"picture {i} is not in the database, which holds 0 to {len(self) - 1}"
                )

    def webp(self, item: int) -> bytes:
        """The picture's WebP file."""
        self.check([item])
        start, end = self._offsets[item : item + 2]
        return self._thumbs.get_slice("data")[start:end].numpy().tobytes()

    def image(self, item: int) -> Image.Image:
        """The picture."""
        return Image.open(io.BytesIO(self.webp(item))).convert("RGB")

    def latents(self, ids: Sequence[int]) -> Tensor:
        """Latents (len(ids), C, S, S), float32."""
        self.check(ids)
        rows = self._latents.get_slice("latents")
        return torch.stack([rows[i].float() for i in ids])

    def vector(self, item: int) -> np.ndarray:
        """The embedding (dim,) of an entry."""
        self.check([item])
        return self.index.reconstruct(int(item))

    def search(
        self, vector: np.ndarray, k: int, exclude: int | None = None
    ) -> tuple[list[int], list[float]]:
        """The k nearest entries and their cosine similarities, best first.

        Args:
            vector: (dim,), a unit vector.
            k: 1 to 16.
            exclude: an id that must not be among them, the query's own.

        Raises:
            RissoleError: for k out of range or a vector that is not finite.
        """
        k = whole_number(k, "k", 1, MAX_NEIGHBORS)
        if not np.isfinite(vector).all():  # faiss would answer with id -1
            raise RissoleError("the query has no usable embedding")
        want = min(k + (exclude is not None), len(self))
        scores, ids = self.index.search(np.ascontiguousarray(vector[None], np.float32), want)
        found = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True)]
        kept = [(i, s) for i, s in found if i >= 0 and i != exclude][:k]
        return [i for i, _ in kept], [min(1.0, s) for _, s in kept]


def build_database(
    folder: str | Path,
    images: Sequence[Image.Image],
    codec: Codec,
    embedding: LatentEmbedding,
    label: str,
    latents: Tensor | None = None,
) -> None:
    """Writes a database of square pictures of one size into a folder.

    Args:
        images: RGB pictures.
        label: what they are, for people.
        latents: (N, C, S, S) when they are known; encoded from the pictures otherwise.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if latents is None:
        latents = torch.cat([codec.encode(to_tensor(image)) for image in images])
    latents = latents.half()
    index = faiss.IndexFlatIP(embedding.dim)
    index.add(embedding(latents).numpy())
    _write_index(folder / "index.faiss", index)
    save_file({"latents": latents.contiguous()}, folder / "latents.safetensors")
    _write_thumbnails(folder / "thumbnails.safetensors", images)
    info = {"format": 1, "count": len(images), "label": label, "image_size": images[0].width}
    (folder / "database.json").write_text(json.dumps(info, indent=1) + "\n")


def _write_index(path: Path, index: faiss.Index) -> None:
    """Writes an index and reads it back: on a full disk faiss writes part of it and says nothing.

    Raises:
        RissoleError: when the file does not hold what was written.
    """
    faiss.write_index(index, str(path))
    try:
        whole = faiss.read_index(str(path)).ntotal == index.ntotal
    except RuntimeError:
        whole = False
    if not whole:
        raise RissoleError(f"{path.name} could not be written whole: is the disk full?")


def _write_thumbnails(path: Path, images: Sequence[Image.Image]) -> None:
    bar = tqdm(images, desc="thumbnails", unit="picture", leave=False, disable=None)
    blobs = [_webp(image) for image in bar]
    offsets = torch.tensor([0, *np.cumsum([len(b) for b in blobs])])
    data = torch.from_numpy(np.frombuffer(b"".join(blobs), np.uint8).copy())
    save_file({"data": data, "offsets": offsets}, path)


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=6)
    return buffer.getvalue()


def decode_all(codec: Codec, latents: Tensor, batch: int = 32) -> list[Image.Image]:
    """Pictures of latents (N, C, S, S)."""
    return [image for part in latents.split(batch) for image in to_pil(codec.decode(part.float()))]
