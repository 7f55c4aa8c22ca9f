"""An index over unit vectors: exact while that is fast, approximate with a stated recall beyond.

The file is memory-mapped: a million entries cost no memory until they are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np

from rissole.config import RissoleError
from rissole.retrieval.index_files import open_index, write_index
from rissole.storage.database_facts import IndexFacts
from rissole.storage.schema import reason

EXACT = 100_000  # up to so many entries every one is compared: some 5 ms
RECALL = 0.98  # of the true 8 nearest, what an approximate index must find
QUERIES = 256  # entries that the recall is measured with
CHUNK = 16_384  # vectors in memory at a time
PROBES = (4, 8, 16, 32, 64, 128, 256)

Chunks = Callable[[], Iterator[np.ndarray]]


class VectorIndex:
    """Nearest neighbors by cosine. Safe to share among threads."""

    def __init__(self, index: faiss.Index, facts: IndexFacts):
        """Wraps an index; `load` and `build` are the usual ways.

        Args:
            index: over unit vectors, by inner product.
            facts: as `build` returns them; without `probes` the index is exact.
        """
        self._index, self.facts = index, facts

    @classmethod
    def load(cls, path: Path, facts: IndexFacts, count: int) -> VectorIndex:
        """Maps a file into memory that anybody may have made.

        Args:
            path: the file.
            facts: what is said of it.
            count: entries that it must have.

        Raises:
            RissoleError: when it is not exactly such an index as `build` writes.
        """
        try:
            return cls(open_index(path, facts, count), facts)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise RissoleError(f"no usable index in {path.name}: {reason(error)}") from error

    @classmethod
    def exact(cls, vectors: np.ndarray) -> VectorIndex:
        """An index in memory over vectors (N, dim)."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, np.float32))
        return cls(index, IndexFacts())

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._index.d

    def vector(self, item: int) -> np.ndarray:
        """The vector (dim,) of an entry."""
        return self._index.reconstruct(int(item))

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest entries of each query, best first; fewer where there are not so many.

        Args:
            queries: (Q, dim) unit vectors.
            allowed: bool (N,), entries that may be found.

        Returns:
            Scores (Q, k) and ids (Q, k); id -1 stands for none.

        Raises:
            RissoleError: for vectors that are not finite or of another length.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if not np.isfinite(queries).all():  # faiss would answer with id -1
            raise RissoleError("the query has no usable embedding")
        if queries.shape[1] != self.dim:  # faiss would fail without a word
            raise RissoleError("the query's embedding is of another encoder than the database's")
        k = min(k, len(self))
        scores, ids = self._index.search(queries, k, params=self._parameters(allowed))
        if ids.max(initial=-1) >= len(self) or not np.isfinite(scores[ids >= 0]).all():
            raise RissoleError("the index of the database is damaged")
        return scores, ids

    def _parameters(self, allowed: np.ndarray | None) -> faiss.SearchParameters:
        selector = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.facts.probes is None:
            return faiss.SearchParameters(sel=selector)
        # what is filtered out leaves fewer to be found in each list: look into more of them
        share = 1.0 if allowed is None else max(float(allowed.mean()), 1e-6)
        probes = min(self._index.nlist, int(np.ceil(self.facts.probes / share)))
        return faiss.SearchParametersIVF(sel=selector, nprobe=probes)


def build(path: Path, chunks: Chunks, count: int, dim: int, exact: int = EXACT) -> IndexFacts:
    """Writes an index over unit vectors that need not fit into memory.

    Args:
        path: file to write.
        chunks: called several times; yields the vectors (n, dim) in order, part by part.
        count: how many there are.
        dim: their length.
        exact: largest count for which all entries are compared.

    Returns:
        What `VectorIndex` needs to know, the recall of an approximate index measured.

    Raises:
        RissoleError: when the file does not hold what was written.
    """
    index = faiss.IndexFlatIP(dim) if count <= exact else _trained(chunks, count, dim)
    for part in chunks():
        index.add(np.ascontiguousarray(part, np.float32))
    facts = _tuned(index, chunks, count) if count > exact else IndexFacts()
    write_index(path, index)
    return facts


def _trained(chunks: Chunks, count: int, dim: int) -> faiss.Index:
    """Lists around centers found by k-means, with vectors in half precision.

    2 bytes a number and 16 a vector in memory while it is built; HNSW would need 4 and 272.
    """
    lists = 2 ** round(np.log2(4 * np.sqrt(count)))
    index = faiss.index_factory(dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed = 10, 0
    index.train(_sample(chunks, count, 40 * lists, 0)[0])
    index.set_direct_map_type(faiss.DirectMap.Array)  # finds an entry's own vector again
    return index


def _sample(chunks: Chunks, count: int, wanted: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random part of the vectors, in order, and their ids."""
    wanted = min(wanted, count)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).choice(count, wanted, replace=False)] = True
    parts, start = [], 0
    for part in chunks():
        parts.append(np.asarray(part[chosen[start : start + len(part)]], np.float32))
        start += len(part)
    return np.concatenate(parts), chosen.nonzero()[0]


def _tuned(index: faiss.Index, chunks: Chunks, count: int) -> IndexFacts:
    """The fewest lists that reach the wanted recall; a query does not count itself."""
    queries, own = _sample(chunks, count, QUERIES, 1)
    truth = _others(exact_neighbors(queries, chunks, 9), own)
    for probes in (*(p for p in PROBES if p < index.nlist), index.nlist):
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        found = _others(index.search(queries, 9, params=parameters)[1], own)
        recall = recall_at(found, truth)
        if recall >= RECALL:
            break
    return IndexFacts(f"IVF{index.nlist},SQfp16", probes, round(recall, 4), len(queries))


def _others(ids: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The first 8 of each row of 9 ids that are not the query's own."""
    return np.stack([row[row != i][:8] for row, i in zip(ids, own, strict=True)])


def exact_neighbors(queries: np.ndarray, chunks: Chunks, k: int) -> np.ndarray:
    """Ids (Q, k) of the nearest of all vectors, by comparing every one."""
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    start = 0
    for part in chunks():
        part = np.ascontiguousarray(part, np.float32)
        scores, ids = faiss.knn(queries, part, min(k, len(part)), faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, ids + start)
        start += len(part)
    heap.finalize()
    return heap.I


def recall_at(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbors (Q, k) that were found."""
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    return sum(hits) / truth.size
