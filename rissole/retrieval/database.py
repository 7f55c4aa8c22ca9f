"""The database of pictures that guide the painting: data, not weights.

A folder holds `database.json` (count, label, sizes, encoder), `index.faiss` (unit vectors, inner
product), `latents.safetensors` (read row by row, never whole), `thumbnails.safetensors` (WebP files
laid end to end, with their offsets), perhaps `labels.safetensors` (classes) and, for each further
encoder, `encoders/<name>/` with an index of its own. It is part of a bundle, or stands alone with
its own manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from rissole.config import MAX_NEIGHBORS, RissoleError, quoted, whole_number
from rissole.data.images import to_pil, to_tensor
from rissole.models.autoencoder import Codec
from rissole.retrieval import index as vectors
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LatentEncoder, QueryEncoder
from rissole.retrieval.index import VectorIndex
from rissole.storage.files import cache_folder, save_tensors
from rissole.storage.manifest import MANIFEST, fingerprint, verify, write_manifest
from rissole.storage.staging import staged

WEBP_QUALITY = 88
NO_CLASS = -1
# what makes a database what it is; a card or one more encoder makes it no other
DATA = ("database.json", "index.faiss", "latents.", "thumbnails.", "labels.")
IN_BUNDLE = tuple(f"database/{part}" for part in DATA)


@dataclass(frozen=True)
class Hits:
    """Retrieved neighbors.

    Attributes:
        ids: database ids, the nearest first.
        scores: cosine similarity of each.
        images: their pictures.
        query: the picture that was searched with.
        item: the query's own id, when it came from the database.
        labels: the class of each, None where the database knows none.
        text: the words that were searched with.
    """

    ids: list[int]
    scores: list[float]
    images: list[Image.Image]
    query: Image.Image | None = None
    item: int | None = None
    labels: list[str | None] | None = None
    text: str | None = None


class Database:
    """Pictures, their latents and an index over their embeddings. Safe to share among threads."""

    def __init__(self, folder: str | Path, fingerprint: str):
        """Opens a verified folder.

        Args:
            folder: where `build_database` or `rissole.retrieval.building` wrote.
            fingerprint: stands for the contents of all its files.

        Raises:
            RissoleError: when files are missing, damaged or do not belong together.
        """
        self.folder, self.fingerprint, self.in_memory = Path(folder), fingerprint, False
        try:
            self.info = _checked(json.loads((self.folder / "database.json").read_text()))
            self.index = VectorIndex.load(self.folder / "index.faiss", self.info.get("index"))
            self._rows = safe_open(self.folder / "latents.safetensors", "pt").get_slice("latents")
            thumbs = safe_open(self.folder / "thumbnails.safetensors", "pt")
            self._offsets, self._webp = thumbs.get_tensor("offsets"), thumbs.get_slice("data")
            _check_offsets(self._offsets, self._webp.get_shape())
            self.latent_shape = tuple(self._rows.get_shape()[1:])
            self._classes = self._read_classes()
            counts = {len(self.index), self._rows.get_shape()[0], len(self._offsets) - 1}
            counts |= {self.info["count"], len(self._classes)}
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RissoleError(f"no usable database in {self.folder.name}/: {reason}") from error
        if len(counts) != 1:
            raise RissoleError(f"the files of database {self.folder.name}/ differ in length")

    @classmethod
    def in_memory(
        cls, latents: Tensor, images: Sequence[Image.Image], encoder: QueryEncoder, label: str
    ) -> Database:
        """A database that is never written anywhere, for the pictures of one visitor.

        Args:
            latents: (N, C, S, S) of the pictures.
            images: square RGB pictures.
            encoder: what they are found by.
            label: what they are, for people.
        """
        self = cls.__new__(cls)
        webp = [to_webp(image) for image in images]
        self.folder, self.in_memory = Path(), True
        self._rows, self.latent_shape = latents.half(), tuple(latents.shape[1:])
        self._webp = torch.from_numpy(np.frombuffer(b"".join(webp), np.uint8).copy())
        self._offsets = torch.tensor([0, *np.cumsum([len(data) for data in webp])])
        self._classes = np.full(len(images), NO_CLASS, np.int32)
        self.index = VectorIndex.exact(encoder(to_tensor(images), latents).cpu().numpy())
        self.info = {
            "count": len(images),
            "label": label,
            "image_size": images[0].width,
            "encoder": {"name": encoder.name, "id": encoder.id},
        }
        digest = hashlib.sha256(self._rows.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:12]
        return self

    def __len__(self) -> int:
        return len(self.index)

    @property
    def label(self) -> str:
        """What the pictures are, for people."""
        return self.info["label"]

    @property
    def classes(self) -> list[str]:
        """Names of the classes that pictures carry; empty when they carry none."""
        return list(self.info.get("classes", []))

    def labels(self, ids: Sequence[int]) -> list[str | None]:
        """The class of each picture, None where it has none."""
        self.check(ids)
        names, numbers = self.classes, (int(self._classes[i]) for i in ids)
        return [names[n] if 0 <= n < len(names) else None for n in numbers]

    def members(self, label: str) -> np.ndarray:
        """bool (N,), the pictures of a class.

        Raises:
            RissoleError: for a class that no picture has.
        """
        names = self.classes
        if label not in names:
            known = ", ".join(names[:20]) or "none"
            raise RissoleError(f"the database has no class {quoted(label)} (it has: {known})")
        return self._classes == names.index(label)

    def check(self, ids: Iterable[int]) -> None:
        """Raises RissoleError when an id is not in the database."""
        for i in ids:
            if not 0 <= i < len(self):
                raise RissoleError(
                    f"picture {quoted(i)} is not in the database, which holds 0 to {len(self) - 1}"
                )

    def webp(self, item: int) -> bytes:
        """The picture's WebP file."""
        self.check([item])
        start, end = self._offsets[item : item + 2].tolist()
        return self._webp[start:end].numpy().tobytes()

    def image(self, item: int) -> Image.Image:
        """The picture.

        Raises:
            RissoleError: when it is none, or of another size than the database says.
        """
        size, data = self.info["image_size"], io.BytesIO(self.webp(item))
        # decoders raise nearly anything on damaged data
        with contextlib.suppress(Exception), Image.open(data, formats=["WEBP"]) as image:
            if image.size == (size, size):
                return image.convert("RGB")
        raise RissoleError(f"picture {item} of the database {self.folder.name} is damaged")

    def latents(self, ids: Sequence[int]) -> Tensor:
        """Latents (len(ids), C, S, S), float32."""
        self.check(ids)
        return torch.stack([self._rows[i].float() for i in ids])

    def vector(self, item: int) -> np.ndarray:
        """The embedding (dim,) of an entry."""
        self.check([item])
        return self.index.vector(item)

    def search(
        self,
        vector: np.ndarray,
        k: int,
        exclude: int | None = None,
        label: str | None = None,
        index: VectorIndex | None = None,
    ) -> tuple[list[int], list[float]]:
        """The k nearest entries and their cosine similarities, best first.

        Args:
            vector: (dim,), a unit vector.
            k: 1 to 16.
            exclude: an id that must not be among them, the query's own.
            label: only pictures of this class.
            index: of another encoder, in place of the database's own.

        Raises:
            RissoleError: for k out of range or a vector that is not finite.
        """
        k = whole_number(k, "k", 1, MAX_NEIGHBORS)
        allowed = None if label is None else self.members(label)
        want = k + (exclude is not None)
        scores, ids = (index or self.index).search(vector[None], want, allowed)
        found = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True)]
        kept = [(i, s) for i, s in found if i >= 0 and i != exclude][:k]
        return [i for i, _ in kept], [min(1.0, s) for _, s in kept]

    def index_for(self, encoder: QueryEncoder) -> VectorIndex:
        """The index of an encoder: the database's own, or one that is made once and kept.

        Args:
            encoder: what a query is encoded with.

        Raises:
            RissoleError: when the database holds vectors of another encoder of that name.
        """
        # databases made before encoders had an id know only the first one
        own = self.info.get("encoder", {"name": "latent", "id": encoder.id})
        if own["name"] == encoder.name:
            self._check_encoder(own["id"], encoder)
            return self.index
        stored = self.folder / "encoders" / encoder.name
        if not self.in_memory and (stored / "encoder.json").is_file():
            return self._stored(stored, encoder)
        return self._encoded(encoder)

    def ready(self, encoder: QueryEncoder) -> bool:
        """Whether the vectors of another encoder than the database's own are at hand."""
        if self.in_memory:
            return False
        stored = self.folder / "encoders" / encoder.name / "encoder.json"
        return stored.is_file() or (self._kept(encoder) / MANIFEST).is_file()

    def _stored(self, folder: Path, encoder: QueryEncoder) -> VectorIndex:
        """The index that `write_encoder` wrote."""
        try:
            facts = json.loads((folder / "encoder.json").read_text())
            made_with, info = facts["id"], _checked_index(facts["index"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RissoleError(f"no usable vectors in {folder.name}/") from error
        self._check_encoder(made_with, encoder)
        index = VectorIndex.load(folder / "index.faiss", info)
        if len(index) != len(self):
            raise RissoleError(f"the vectors in {folder.name}/ are of another database")
        return index

    def _check_encoder(self, made_with: str, encoder: QueryEncoder) -> None:
        if made_with != encoder.id:
            raise RissoleError(
                f"the database was indexed with the encoder {made_with}, not with {encoder.id}: "
                "choose that one, or index the pictures again"
            )

    def _encoded(self, encoder: QueryEncoder) -> VectorIndex:
        """An index made from latents and thumbnails, kept in the user's cache."""
        if self.in_memory:
            return VectorIndex.exact(np.concatenate(list(self._vectors(encoder))))
        kept = self._kept(encoder)
        try:
            verify(kept, remember=True)
        except RissoleError:  # none, or damaged ones
            made = np.concatenate(list(self._vectors(encoder)))
            with staged(kept) as stage:
                write_encoder(stage, encoder, made)
                write_manifest(stage, "vectors")
        return self._stored(kept, encoder)

    def _kept(self, encoder: QueryEncoder) -> Path:
        """Where in the user's cache the vectors of an encoder lie, under a name for any disk."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{self.fingerprint}-{encoder.id}")
        return cache_folder() / name

    def _vectors(self, encoder: QueryEncoder, batch: int = 16) -> Iterator[np.ndarray]:
        title = f"reading {self.label} with {encoder.name}"
        with tqdm(total=len(self), desc=title, unit="picture", leave=False, disable=None) as bar:
            for start in range(0, len(self), batch):
                ids = range(start, min(start + batch, len(self)))
                pixels = to_tensor([self.image(i) for i in ids])
                with torch.inference_mode():
                    yield encoder(pixels, self.latents(ids)).cpu().numpy()
                bar.update(len(ids))

    def _read_classes(self) -> np.ndarray:
        path = self.folder / "labels.safetensors"
        if not path.is_file():
            return np.full(self.info["count"], NO_CLASS, np.int32)
        labels = safe_open(path, "np").get_tensor("labels")
        if labels.ndim != 1 or labels.dtype.kind != "i":
            raise ValueError("odd labels")
        return labels


def _checked(info: Any) -> dict[str, Any]:
    """What `database.json` says, if it is of the form that is written here.

    Raises:
        ValueError: names what is odd.
    """
    if not isinstance(info, dict):
        raise ValueError("odd database.json")
    own, classes = info.get("encoder", {"name": "", "id": ""}), info.get("classes", [])
    sound = {
        "count": _positive(info.get("count")),
        "label": isinstance(info.get("label"), str),
        "image_size": _positive(info.get("image_size")),
        "classes": isinstance(classes, list) and all(isinstance(c, str) for c in classes),
        "encoder": isinstance(own, dict)
        and all(isinstance(own.get(fact), str) for fact in ("name", "id")),
    }
    for name, fine in sound.items():
        if not fine:
            raise ValueError(f"odd {name}")
    _checked_index(info.get("index"))
    return info


def _checked_index(info: Any) -> dict[str, Any]:
    """What was noted of an index, see `vectors.build`."""
    info = {} if info is None else info
    if not isinstance(info, dict) or not _positive(info.get("probes", 1)):
        raise ValueError("odd index")
    return info


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _check_offsets(offsets: Tensor, length: Sequence[int]) -> None:
    """Raises ValueError unless files can lie end to end at these places."""
    sound = offsets.dim() == 1 and offsets.dtype == torch.int64 and len(length) == 1
    if not sound or offsets[0] < 0 or offsets[-1] > length[0] or (offsets.diff() < 0).any():
        raise ValueError("odd thumbnails")


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
    latents = latents.half()
    pixels = to_tensor(images)
    with torch.inference_mode():
        parts = [encoder(p, z) for p, z in zip(pixels.split(64), latents.split(64), strict=True)]
    made = torch.cat(parts).cpu().numpy()
    index = vectors.build(folder / "index.faiss", lambda: iter([made]), len(made), encoder.dim)
    save_tensors({"latents": latents.contiguous()}, folder / "latents.safetensors")
    _write_thumbnails(folder / "thumbnails.safetensors", images)
    info = {"format": 1, "count": len(images), "label": label, "image_size": images[0].width,
            "encoder": {"name": encoder.name, "id": encoder.id}, "index": index}  # fmt: skip
    if classes is not None:
        info["classes"] = write_classes(folder, classes)
    (folder / "database.json").write_text(json.dumps(info, indent=1) + "\n")


def write_classes(folder: Path, classes: Sequence[str | None]) -> list[str]:
    """Writes `labels.safetensors` and returns the names of the classes, in alphabetical order."""
    names = sorted({name for name in classes if name is not None})
    number = {name: i for i, name in enumerate(names)} | {None: NO_CLASS}
    numbers = torch.tensor([number[name] for name in classes], dtype=torch.int32)
    save_tensors({"labels": numbers}, folder / "labels.safetensors")
    return names


def write_encoder(folder: Path, encoder: QueryEncoder, made: np.ndarray) -> None:
    """Writes the vectors (N, dim) of one more encoder as an index with the encoder's id."""
    folder.mkdir(parents=True, exist_ok=True)

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(made), vectors.CHUNK):
            yield made[start : start + vectors.CHUNK]

    index = vectors.build(folder / "index.faiss", chunks, len(made), encoder.dim)
    facts = {"name": encoder.name, "id": encoder.id, "index": index}
    (folder / "encoder.json").write_text(json.dumps(facts, indent=1) + "\n")


class DatabaseEntry(NamedTuple):
    """A database that could be opened: for lists to choose from."""

    path: Path
    label: str
    count: int
    classes: list[str]


def list_databases(*folders: str | Path) -> list[DatabaseEntry]:
    """Databases that lie in some folders, or are these folders; nothing is verified or opened."""
    found = []
    for folder in map(Path, folders):
        inside = sorted(p.parent for p in folder.glob("*/database.json"))
        own = [folder] if (folder / "database.json").is_file() else []
        for path in own + [p for p in inside if not p.name.startswith(".")]:
            facts = _facts(path)
            if facts:
                found.append(facts)
    return found


def _facts(path: Path) -> DatabaseEntry | None:
    try:
        info = _checked(json.loads((path / "database.json").read_text()))
        whole = (path / MANIFEST).is_file()
        entry = DatabaseEntry(path, info["label"], info["count"], info.get("classes", []))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if whole else None


def open_database(folder: Path, encoder: str) -> Database:
    """Verifies and opens a database that stands alone.

    Args:
        encoder: fingerprint of the autoencoder and embedding it must have been made with.

    Raises:
        RissoleError: when it is damaged, or was made with another autoencoder.
    """
    own: dict[str, Any] = verify(folder, remember=True)
    if own.get("encoder") != encoder:
        raise RissoleError(
            f"database {folder.name} was made with another autoencoder: index it again"
        )
    return Database(folder, fingerprint(own, DATA))


def _write_thumbnails(path: Path, images: Sequence[Image.Image]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blobs = pool.map(to_webp, images)
        bar = tqdm(blobs, "thumbnails", len(images), leave=False, unit="picture", disable=None)
        blobs = list(bar)
    offsets = torch.tensor([0, *np.cumsum([len(b) for b in blobs])])
    data = torch.from_numpy(np.frombuffer(b"".join(blobs), np.uint8).copy())
    save_tensors({"data": data, "offsets": offsets}, path)


def to_webp(image: Image.Image) -> bytes:
    """A WebP file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def decode_all(codec: Codec, latents: Tensor, batch: int = 32) -> list[Image.Image]:
    """Pictures of latents (N, C, S, S)."""
    return [image for part in latents.split(batch) for image in to_pil(codec.decode(part.float()))]
