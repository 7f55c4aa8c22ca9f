"""A database with some pictures of one visitor behind it, for neighbors from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rissole.retrieval.database import Database
from rissole.retrieval.encoders import QueryEncoder
from rissole.retrieval.index import VectorIndex


class Extended(Database):
    """The pictures of one database, then those of another; nothing of either is copied.

    Numbers of the first stay as they are, so that what was painted from it can be repainted.

    Args:
        first: of any kind.
        more: pictures that live in memory.
        encoder: what `first` is indexed with.
        extends: key of `first`.
    """

    def __init__(self, first: Database, more: Database, encoder: QueryEncoder, extends: str):
        self.first, self.more, self.extends = first, more, extends
        self.depth: int = 1 + getattr(first, "depth", 0)  # how many are one upon another
        self.folder, self.in_memory = Path(), True
        self.facts = first.facts.grown(len(more))
        self.index = _Joined(first.index, more.index_for(encoder))
        both = f"{first.fingerprint}{more.fingerprint}".encode()
        self.fingerprint = hashlib.sha256(both).hexdigest()[:12]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """See `Database`."""
        return self.first.latent_shape

    def labels(self, ids: Sequence[int]) -> list[str | None]:
        """See `Database`; the added pictures have no class."""
        self.check(ids)
        return [self.first.labels([i])[0] if i < len(self.first) else None for i in ids]

    def members(self, *labels: str) -> np.ndarray:
        """See `Database`."""
        return np.concatenate([self.first.members(*labels), np.zeros(len(self.more), bool)])

    def webp(self, item: int) -> bytes:
        """See `Database`."""
        self.check([item])
        part, own = self._place(item)
        return part.webp(own)

    def latents(self, ids: Sequence[int]) -> Tensor:
        """See `Database`."""
        self.check(ids)
        places = map(self._place, ids)
        return torch.cat([part.latents([own]) for part, own in places])

    def indexing(self, encoder: QueryEncoder) -> Iterator[VectorIndex | None]:
        """See `Database`."""
        parts = []
        for step in chain(self.first.indexing(encoder), self.more.indexing(encoder)):
            if step is None:
                yield None
            else:
                parts.append(step)
        yield _Joined(*parts)

    def ready(self, encoder: QueryEncoder) -> bool:
        """See `Database`; the added pictures are few."""
        return self.first.ready(encoder)

    def _place(self, item: int) -> tuple[Database, int]:
        count = len(self.first)
        return (self.first, item) if item < count else (self.more, item - count)


class _Joined(VectorIndex):
    """Two indexes as one."""

    def __init__(self, first: VectorIndex, more: VectorIndex):
        self.first, self.more, self.facts = first, more, first.facts

    def __len__(self) -> int:
        return len(self.first) + len(self.more)

    @property
    def dim(self) -> int:
        """See `VectorIndex`."""
        return self.first.dim

    def vector(self, item: int) -> np.ndarray:
        """See `VectorIndex`."""
        count = len(self.first)
        return self.first.vector(item) if item < count else self.more.vector(item - count)

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorIndex`; -1 where there are fewer than k."""
        count = len(self.first)
        parts = (None, None) if allowed is None else (allowed[:count], allowed[count:])
        near, ids = self.first.search(queries, k, parts[0])
        nearer, others = self.more.search(queries, k, parts[1])
        others = np.where(others < 0, others, others + count)
        scores, found = np.concatenate([near, nearer], 1), np.concatenate([ids, others], 1)
        scores = np.where(found < 0, -np.inf, scores)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(found, best, 1)
