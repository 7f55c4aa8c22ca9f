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
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from rissole.config import MAX_NEIGHBORS, RissoleError, quoted, whole_number
from rissole.data.images import to_tensor
from rissole.retrieval.contents import INDEX, Contents, write_encoder
from rissole.retrieval.encoders import QueryEncoder
from rissole.retrieval.index import VectorIndex
from rissole.storage.database_facts import (
    DATABASE_FILE,
    ENCODER_FILE,
    DatabaseFacts,
    EncoderMark,
    VectorFacts,
)
from rissole.storage.files import cache_folder
from rissole.storage.manifest import MANIFEST, fingerprint, verify, whole, write_manifest
from rissole.storage.schema import reason
from rissole.storage.staging import aside, make_room, staged

# what makes a database what it is; a card or one more encoder makes it no other
DATA = (DATABASE_FILE, "index.faiss", "latents.", "thumbnails.", "labels.")
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

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        facts: DatabaseFacts,
        index: VectorIndex,
        contents: Contents,
        in_memory: bool = False,
    ):
        """Puts the parts together; `open` and `of_pictures` are the usual ways.

        Args:
            folder: where it lies.
            fingerprint: stands for the contents of all its files.
            facts: what it says of itself.
            index: of the encoder that `facts` names.
            contents: what it holds of each picture.
            in_memory: it lies nowhere.
        """
        self.folder, self.fingerprint, self.in_memory = folder, fingerprint, in_memory
        self.facts, self.index, self._contents = facts, index, contents
        self.skipped: list[str] = []  # of a visitor's files, those that were no pictures

    @classmethod
    def open(cls, folder: str | Path, fingerprint: str) -> Database:
        """Opens a verified folder.

        Args:
            folder: where `build_database` or `build_index` wrote.
            fingerprint: stands for the contents of all its files.

        Raises:
            RissoleError: when files are missing, damaged or do not belong together.
        """
        folder = Path(folder)
        try:
            facts = DatabaseFacts.read(folder)
            index = VectorIndex.load(folder / INDEX, facts.index, facts.count)
            contents = Contents.open(folder, facts.count, len(facts.classes))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise RissoleError(f"no usable database in {folder.name}/: {reason(error)}") from error
        return cls(folder, fingerprint, facts, index, contents)

    @classmethod
    def of_pictures(
        cls,
        latents: Tensor,
        images: Sequence[Image.Image],
        webp: Sequence[bytes],
        encoder: QueryEncoder,
        label: str,
    ) -> Database:
        """A database that is never written anywhere, for the pictures of one visitor.

        Args:
            latents: (N, C, S, S) of the pictures.
            images: square RGB pictures.
            webp: their thumbnails.
            encoder: what they are found by.
            label: what they are, for people.
        """
        contents = Contents.of(latents, webp)
        index = VectorIndex.exact(encoder(to_tensor(images), latents).cpu().numpy())
        mark = EncoderMark(encoder.name, encoder.id)
        facts = DatabaseFacts(len(images), label, images[0].width, mark)
        digest = hashlib.sha256(contents.latents.numpy().tobytes()).hexdigest()[:12]
        return cls(Path(), digest, facts, index, contents, in_memory=True)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, S, S)."""
        return self._contents.latents_shape[1:]

    @property
    def label(self) -> str:
        """What the pictures are, for people."""
        return self.facts.label

    @property
    def classes(self) -> list[str]:
        """Names of the classes that pictures carry; empty when they carry none."""
        return list(self.facts.classes)

    def labels(self, ids: Sequence[int]) -> list[str | None]:
        """The class of each picture, None where it has none."""
        self.check(ids)
        names, numbers = self.classes, (int(self._contents.classes[i]) for i in ids)
        return [names[n] if 0 <= n < len(names) else None for n in numbers]

    def members(self, *labels: Any) -> np.ndarray:
        """bool (N,), the pictures of a class or of several, whose names may come from anywhere.

        Raises:
            RissoleError: for a class that no picture has.
        """
        names = self.classes
        for label in labels:
            if not isinstance(label, str) or label not in names:
                known = ", ".join(names[:20]) or "none"
                raise RissoleError(f"the database has no class {quoted(label)} (it has: {known})")
        return np.isin(self._contents.classes, [names.index(label) for label in labels])

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
        start, end = self._contents.offsets[item : item + 2].tolist()
        return self._contents.webp[start:end].numpy().tobytes()

    def image(self, item: int) -> Image.Image:
        """The picture.

        Raises:
            RissoleError: when it is none, or of another size than the database says.
        """
        size, data = self.facts.image_size, io.BytesIO(self.webp(item))
        # decoders raise nearly anything on damaged data
        with contextlib.suppress(Exception), Image.open(data, formats=["WEBP"]) as image:
            if image.size == (size, size):
                return image.convert("RGB")
        raise RissoleError(f"picture {item} of the database {self.folder.name} is damaged")

    def latents(self, ids: Sequence[int]) -> Tensor:
        """Latents (len(ids), C, S, S), float32.

        Raises:
            RissoleError: for an id that is not there, and for numbers that are not finite.
        """
        self.check(ids)
        latents = torch.stack([self._contents.latents[i].float() for i in ids])
        if not latents.isfinite().all():
            raise RissoleError(f"the latents of the database {self.folder.name} are damaged")
        return latents

    def vector(self, item: int) -> np.ndarray:
        """The embedding (dim,) of an entry."""
        self.check([item])
        return self.index.vector(item)

    def search(
        self,
        vector: np.ndarray,
        k: int,
        exclude: int | None = None,
        label: str | Sequence[str] | None = None,
        index: VectorIndex | None = None,
    ) -> tuple[list[int], list[float]]:
        """The k nearest entries and their cosine similarities, best first.

        Args:
            vector: (dim,), a unit vector.
            k: 1 to 16.
            exclude: an id that must not be among them, the query's own.
            label: only pictures of this class, or of these.
            index: of another encoder, in place of the database's own.

        Raises:
            RissoleError: for k out of range or a vector that is not finite.
        """
        k = whole_number(k, "k", 1, MAX_NEIGHBORS)
        labels = label if isinstance(label, list | tuple | set) else [label]
        allowed = None if label is None else self.members(*labels)
        scores, ids = (index or self.index).search(vector[None], k + (exclude is not None), allowed)
        found = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True)]
        kept = [(i, s) for i, s in found if i >= 0 and i != exclude][:k]
        return [i for i, _ in kept], [min(1.0, s) for _, s in kept]

    def index_for(self, encoder: QueryEncoder) -> VectorIndex:
        """The index of an encoder: the database's own, or one that is made once and kept.

        Raises:
            RissoleError: when the database holds vectors of another encoder of that name.
        """
        *_, index = self.indexing(encoder)
        assert index is not None
        return index

    def indexing(self, encoder: QueryEncoder) -> Iterator[VectorIndex | None]:
        """The same in steps, for who does other things in between.

        Yields:
            None after each batch of pictures that was encoded, and at last the index.
        """
        if self.facts.encoder_name == encoder.name:
            if self.facts.encoder is not None:
                _check_encoder(self.facts.encoder, encoder)
            yield searchable(self.index, encoder)
        elif not self.in_memory and (self._beside(encoder) / ENCODER_FILE).is_file():
            yield self._vectors_in(self._beside(encoder), encoder)
        else:
            yield from self._encoding(encoder)

    def ready(self, encoder: QueryEncoder) -> bool:
        """Whether the vectors of another encoder than the database's own are at hand."""
        if self.in_memory:
            return False
        places = (self._beside(encoder) / ENCODER_FILE, self._kept(encoder) / MANIFEST)
        return any(map(os.path.isfile, places))  # false also where one may not look

    def save_vectors(self, encoder: QueryEncoder, folder: Path) -> None:
        """Writes the vectors of another encoder into a copy of this database.

        Raises:
            RissoleError: when the database holds vectors of another encoder of that name.
        """
        index = self.index_for(encoder)
        made = np.stack([index.vector(i) for i in range(len(self))])
        write_encoder(folder / "encoders" / encoder.name, encoder, made)

    def _beside(self, encoder: QueryEncoder) -> Path:
        """Where a database that was built with an encoder keeps the vectors of it."""
        return self.folder / "encoders" / encoder.name

    def _vectors_in(self, folder: Path, encoder: QueryEncoder) -> VectorIndex:
        """The index that `write_encoder` wrote."""
        try:
            facts = VectorFacts.read(folder)
            index = VectorIndex.load(folder / INDEX, facts.index, len(self))
        except (OSError, ValueError) as error:
            raise RissoleError(f"no usable vectors in {folder.name}/: {reason(error)}") from error
        _check_encoder(facts.encoder, encoder)
        return searchable(index, encoder)

    def _encoding(self, encoder: QueryEncoder) -> Iterator[VectorIndex | None]:
        """An index made from latents and thumbnails, kept in the user's cache."""
        if not self.in_memory and whole(self._kept(encoder)):
            yield self._vectors_in(self._kept(encoder), encoder)
            return
        parts = []
        for part in self._made(encoder):
            parts.append(part)
            yield None
        made = np.concatenate(parts)
        yield VectorIndex.exact(made) if self.in_memory else self._keeping(encoder, made)

    def _keeping(self, encoder: QueryEncoder, made: np.ndarray) -> VectorIndex:
        kept = self._kept(encoder)
        try:
            make_room(kept)
            with staged(kept) as stage:
                write_encoder(stage, encoder, made)
                write_manifest(stage, "vectors")
        except (OSError, RissoleError):  # a cache that cannot be written: made again next time
            return VectorIndex.exact(made)
        return self._vectors_in(kept, encoder)

    def _kept(self, encoder: QueryEncoder) -> Path:
        """Where in the user's cache the vectors of an encoder lie, under a name for any disk."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{self.fingerprint}-{encoder.id}")
        return cache_folder() / name

    def _made(self, encoder: QueryEncoder, batch: int = 16) -> Iterator[np.ndarray]:
        title = f"reading {self.label} with {encoder.name}"
        with tqdm(total=len(self), desc=title, unit="picture", leave=False, disable=None) as bar:
            for start in range(0, len(self), batch):
                ids = range(start, min(start + batch, len(self)))
                pixels = to_tensor([self.image(i) for i in ids])
                with torch.inference_mode():
                    yield encoder(pixels, self.latents(ids)).cpu().numpy()
                bar.update(len(ids))


def open_database(folder: Path, encoder: str) -> Database:
    """Verifies and opens a database that stands alone.

    Args:
        encoder: fingerprint of the autoencoder and embedding it must have been made with.

    Raises:
        RissoleError: when it is damaged, or was made with another autoencoder.
    """
    own = verify(folder, remember=True)
    if own.get("encoder") != encoder:
        raise RissoleError(
            f"database {folder.name} was made with another autoencoder: index it again"
        )
    return Database.open(folder, fingerprint(own, DATA))


def list_databases(*folders: str | Path) -> list[tuple[Path, DatabaseFacts]]:
    """Databases that lie in some folders, or are these folders; nothing is verified or opened."""
    found = []
    for folder in map(Path, folders):
        inside = sorted(p.parent for p in folder.glob(f"*/{DATABASE_FILE}"))
        for path in (folder, *filter(_shown, inside)):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                facts = DatabaseFacts.read(path)
                if (path / MANIFEST).is_file():
                    found.append((path, facts))
    return found


def searchable(index: VectorIndex, encoder: QueryEncoder) -> VectorIndex:
    """The index, when its vectors are as long as those of an encoder; RissoleError otherwise."""
    if index.dim != encoder.dim:
        raise RissoleError(f"the database has {index.dim} numbers a picture, not {encoder.dim}")
    return index


def _shown(folder: Path) -> bool:
    """Whether a folder is not hidden, or what a replacement that was cut short has left aside."""
    if not folder.name.startswith("."):
        return True
    missing = folder.with_name(folder.name[1:].removesuffix(".replaced"))
    return folder == aside(missing) and not missing.exists()


def _check_encoder(made_with: EncoderMark, encoder: QueryEncoder) -> None:
    if made_with.id != encoder.id:
        raise RissoleError(
            f"the database was indexed with the encoder {made_with.id}, not with {encoder.id}: "
            "choose that one, or index the pictures again"
        )
