"""Finds pictures that are in a database in the making already: the same file, or the same photo.

Another picture counts as the same one above both bounds. Of AFHQ's cats all 57 pairs found so are
the same photo; cosine alone also joins small things on one plain background (CIFAR-10: 6 of 18).
"""

from __future__ import annotations

from collections.abc import Mapping

import faiss
import numpy as np

from rissole.retrieval import index as vectors
from rissole.retrieval.columns import Column

NEAR = 0.98  # cosine of the embeddings
ALIKE = 0.87  # correlation of the latents at half their resolution
CANDIDATES = 4  # nearest by their signs, whose cosine is then compared


class Duplicates:
    """What is there already, in bits: 16 bytes a picture, and the signs of its vector.

    Args:
        columns: digests, vectors and latents of the pictures that were added, see `open_columns`.
        count: how many of them there are.
    """

    def __init__(self, columns: Mapping[str, Column], count: int):
        self._vectors, self._latents = columns["vectors-0"], columns["latents"]
        self._seen = {bytes(d) for d in columns["digests"].rows(count).reshape(-1, 16)}
        self._near = faiss.IndexBinaryFlat(8 * -(-self._vectors.row[0] // 8))
        for start in range(0, count, vectors.CHUNK):
            self._near.add(_signs(self._vectors.rows(count)[start : start + vectors.CHUNK]))

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        """Notes a picture that is being added to the columns."""
        self._seen.add(digest)
        self._near.add(_signs(vector[None]))

    def find(self, digest: bytes, vector: np.ndarray, latent: np.ndarray) -> int | str | None:
        """The number of a picture that is the same, "exact" for a twin, None for a new one.

        Args:
            digest: of its pixels.
            vector: (dim,), of the first encoder.
            latent: (C, S, S).
        """
        if digest in self._seen:
            return "exact"
        if not self._near.ntotal:
            return None
        signs, most = _signs(vector[None]), min(CANDIDATES, self._near.ntotal)
        for other in self._near.search(signs, most)[1][0].tolist():
            cosine = float(self._vectors.one(other).astype(np.float32) @ vector)
            if cosine > NEAR and correlation(self._latents.one(other), latent) > ALIKE:
                return other
        return None


def _signs(part: np.ndarray) -> np.ndarray:
    """The signs of vectors (N, dim) as bits: near vectors have most of them in common."""
    return np.packbits(np.asarray(part) > 0, axis=1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two latents (C, S, S) at half their resolution, channel means aside.

    Two dark pictures have none because they are dark.
    """
    c, size, _ = a.shape
    halves = np.stack([a, b]).astype(np.float32).reshape(2, c, size // 2, 2, size // 2, 2)
    small = halves.mean((3, 5)).reshape(2, c, -1)
    x, y = (small - small.mean(-1, keepdims=True)).reshape(2, -1)
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-9))
