"""How retrieval behaves with many pictures: a database of synthetic entries, built and searched."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.experiments.machine import memory, peak_memory, timed
from rissole.pipeline import RissolePipeline
from rissole.retrieval import index as vectors
from rissole.retrieval.index import VectorIndex
from rissole.storage.database_facts import IndexFacts

QUERIES = 256
PART = 2048  # entries made at a time


def measure_index(
    pipe: RissolePipeline, count: int, folder: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Builds a database of synthetic entries, searches it, and deletes it.

    Args:
        count: entries, see `_entries`.
        folder: where to build; a temporary one by default.
        seed: of the entries and queries.

    Returns:
        Rates, memory, recall against comparing all entries, and milliseconds per query.

    Raises:
        RissoleError: for too few entries, or too little disk space.
    """
    if count < 1000:
        raise RissoleError(f"a benchmark needs 1000 entries at least, not {count}")
    dim = pipe.retriever.encoders["latent"].dim
    entry = 2 * (int(np.prod(pipe.database.latent_shape)) + 2 * dim)
    with tempfile.TemporaryDirectory(dir=folder) as temporary, peak_memory() as peak:
        work = Path(temporary)
        if shutil.disk_usage(work).free < 1.1 * count * entry:
            raise RissoleError(f"{count * entry / 1e9:.1f} GB of disk are needed in {work.parent}")
        written, (latents, made) = timed(lambda: _write_entries(pipe, work, count, dim, seed))

        def chunks() -> Iterator[np.ndarray]:
            for first in range(0, count, vectors.CHUNK):
                yield made[first : first + vectors.CHUNK]

        path = work / "index.faiss"
        built, info = timed(lambda: vectors.build(path, chunks, count, dim))
        build_memory = peak["mb"]
        queries = _embed(pipe, next(_entries(pipe, QUERIES, seed + 1)))
        truth = vectors.exact_neighbors(queries, chunks, 8)
        exact, _ = timed(lambda: vectors.exact_neighbors(queries[:8], chunks, 8))
        return {
            "entries": count,
            "dimensions": dim,
            "index": info.to_json(),
            "index_mb": round(path.stat().st_size / 1e6, 1),
            "latents_mb": round((work / "latents").stat().st_size / 1e6, 1),
            "entries_written_per_second": round(count / written),
            "index_build_seconds": round(built, 1),
            "index_entries_per_second": round(count / built),
            "peak_memory_while_building_mb": build_memory,
            **_search(path, info, queries, truth, latents),
            "exact_ms_per_query": round(1000 * exact / 8, 1),
        }


def _write_entries(
    pipe: RissolePipeline, work: Path, count: int, dim: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Writes latents and vectors, half precision, and returns them memory-mapped."""
    files = work / "latents", work / "vectors"
    with files[0].open("wb") as latents, files[1].open("wb") as made:
        bar = tqdm(total=count, desc="writing entries", unit="entry", disable=None)
        for part in _entries(pipe, count, seed):
            latents.write(part.half().numpy().tobytes())
            made.write(_embed(pipe, part).astype(np.float16).tobytes())
            bar.update(len(part))
        bar.close()
    shape = (count, *pipe.database.latent_shape)
    return (
        np.memmap(files[0], np.float16, "r", shape=shape),
        np.memmap(files[1], np.float16, "r", shape=(count, dim)),
    )


def _entries(pipe: RissolePipeline, count: int, seed: int) -> Iterator[Tensor]:
    """Synthetic latents (n, C, S, S), part by part.

    An entry is the mixture of two latents of the pipeline's database with noise: nearly as varied
    as photos, where independent noise would have no neighbors worth the name.
    """
    base = pipe.database.latents(range(min(len(pipe.database), 2048)))
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, count, PART):
        n = min(PART, count - first)
        a, b = torch.randint(len(base), (2, n), generator=generator)
        share = torch.rand(n, 1, 1, 1, generator=generator)
        noise = torch.randn(n, *base.shape[1:], generator=generator)
        yield torch.lerp(base[a], base[b], share).add_(noise, alpha=0.5)


def _embed(pipe: RissolePipeline, latents: Tensor) -> np.ndarray:
    return pipe.retriever.encoders["latent"](latents, latents).numpy()


def _search(
    path: Path, info: IndexFacts, queries: np.ndarray, truth: np.ndarray, latents: np.ndarray
) -> dict[str, Any]:
    """Opens the index as the pipeline does, and asks one query at a time."""
    before = memory()
    opened, index = timed(lambda: VectorIndex.load(path, info, len(latents)))
    cold, warm = _ask(index, queries, latents), _ask(index, queries, latents)
    return {
        "recall_at_8_of_new_queries": round(vectors.recall_at(warm.ids, truth), 4),
        "open_ms": round(1000 * opened, 2),
        "memory_for_searching_mb": round(memory() - before, 1),
        "ms_per_query": _milliseconds(warm.search),
        "ms_per_query_p95": _milliseconds(warm.search, 0.95),
        "ms_to_read_8_latents": _milliseconds(warm.read),
        "first_time_ms_per_query": _milliseconds(cold.search),
        "first_time_ms_to_read_8_latents": _milliseconds(cold.read),
    }


class _Answers(NamedTuple):
    """Ids (Q, 8), and seconds per query for the search and for reading the neighbors."""

    ids: np.ndarray
    search: list[float]
    read: list[float]


def _ask(index: VectorIndex, queries: np.ndarray, latents: np.ndarray) -> _Answers:
    """One query at a time, as a pipeline asks; what it reads from disk stays in memory."""
    found, search, read = [], [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], 8)[1][0])
        search.append(time.perf_counter() - start)
        np.stack([latents[i] for i in found[-1]])
        read.append(time.perf_counter() - start - search[-1])
    return _Answers(np.stack(found), search, read)


def _milliseconds(seconds: list[float], share: float = 0.5) -> float:
    return round(1000 * float(np.quantile(seconds, share)), 3)
