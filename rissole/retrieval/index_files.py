"""Index files: written so that they are whole, and opened as if anybody had made them.

faiss reads dozens of kinds of index and trusts what they say of themselves. Here two kinds are
read, told apart by their first bytes before faiss sees them: all vectors (`IxFI`), and lists of
vectors in half precision (`IwSq`); both of unit vectors by inner product.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from rissole.config import RissoleError
from rissole.storage.database_facts import EXACT, IndexFacts
from rissole.storage.manifest import LARGE

KINDS = {b"IxFI": EXACT, b"IwSq": "IVF"}
MAX_DIM = 16_384
HEAD = 37  # bytes of the head of every index: kind, numbers, entries, 16 unused, state, metric
SCALES = 28  # bytes between the table of places and the scales, of which half precision has none
UNIT = 0.02  # how far from 1 the length of a vector in half precision may be
SAMPLE = 4096  # vectors of a large index that are looked at; the others when they are found


def open_index(path: Path, facts: IndexFacts, count: int) -> faiss.Index:
    """Maps an index into memory and checks all that a search relies on.

    Args:
        path: the file.
        facts: what is said of it.
        count: entries that it must have.

    Raises:
        OSError, RuntimeError: when it cannot be read.
        ValueError: says what is odd.
    """
    with path.open("rb") as file:
        kind = KINDS.get(file.read(4))
        if kind is None or facts.type.startswith("IVF") != (kind == "IVF"):
            raise ValueError(f"it is not of the type {facts.type}")
        if kind != EXACT and not _whole_lists(file, count):
            raise ValueError("it does not hold what it says")
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if index.ntotal != count or not 1 <= index.d <= MAX_DIM or not index.is_trained:
        raise ValueError(f"it holds {index.ntotal} vectors of {index.d} numbers, not {count}")
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError("its metric is not the inner product")
    if kind == EXACT:
        _check_exact(index, path, facts)
    else:
        _check_lists(index, facts)
    _check_lengths(index, path)
    return index


def _whole_lists(file: BinaryIO, count: int) -> bool:
    """Whether all lengths in a file of lists fit one another, and the file.

    faiss takes room for whatever length it reads, many gigabytes perhaps, before it finds out that
    there is no more to be read.
    """

    def numbers(at: int, form: str) -> tuple[Any, ...]:
        file.seek(at)
        return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))

    end = os.fstat(file.fileno()).st_size
    try:
        (dim,), (lists,) = numbers(4, "i"), numbers(HEAD, "Q")
        if not 1 <= dim <= MAX_DIM or 4 * lists * dim > end:
            return False
        at = 2 * HEAD + 16  # the head of the index of centers is behind us
        (centers,), at = numbers(at, "Q"), at + 8 + 4 * lists * dim
        _, entries = numbers(at, "BQ")
        at += 9 + 8 * count + SCALES
        (scales,), at = numbers(at, "Q"), at + 17
        kind, same, code, form, length = numbers(at, "4sQQ4sQ")
        if (centers, entries, scales, kind, same) != (lists * dim, count, 0, b"ilar", lists):
            return False
        sparse = form == b"sprs"  # which lists are not empty, and their lengths
        if code != 2 * dim or length > (2 * lists if sparse else lists):
            return False
        lengths = numbers(at + 32, f"{length}Q")
    except struct.error:  # the file ends there
        return False
    total = sum(lengths[1::2] if sparse else lengths)
    return total == count and end == at + 32 + 8 * length + count * (code + 8)


def write_index(path: Path, index: faiss.Index) -> None:
    """Writes an index and reads it back: on a full disk faiss writes part of it and says nothing.

    Raises:
        RissoleError: when the file does not hold what was written; then there is none.
    """
    try:
        faiss.write_index(index, str(path))
        written = path.read_bytes() if path.stat().st_size < LARGE else None
        again = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        whole = again.ntotal == index.ntotal
        if written is not None:
            whole = whole and faiss.serialize_index(index).tobytes() == written
    except (OSError, RuntimeError):
        whole = False
    if not whole:
        path.unlink(missing_ok=True)
        raise RissoleError(f"{path.name} could not be written whole: is the disk full?")


def _check_exact(index: faiss.IndexFlatIP, path: Path, facts: IndexFacts) -> None:
    if type(index) is not faiss.IndexFlatIP or facts.probes is not None:
        raise ValueError("it is not of the type exact")
    vectors = 4 * index.d * index.ntotal
    if not vectors < path.stat().st_size < vectors + 256:
        raise ValueError("it does not hold what it says")


def _check_lists(index: faiss.IndexIVFScalarQuantizer, facts: IndexFacts) -> None:
    """Every entry lies in one list, and is found there again by its number."""
    half = faiss.ScalarQuantizer.QT_fp16
    if type(index) is not faiss.IndexIVFScalarQuantizer or index.sq.qtype != half:
        raise ValueError(f"it is not of the type {facts.type}")
    if facts.type != f"IVF{index.nlist},SQfp16" or not 1 <= (facts.probes or 0) <= index.nlist:
        raise ValueError(f"{facts.probes} probes do not fit its {index.nlist} lists")
    centers = faiss.downcast_index(index.quantizer)
    if centers.ntotal != index.nlist or centers.d != index.d:
        raise ValueError("its lists have no centers")
    if index.direct_map.type != faiss.DirectMap.Array:
        raise ValueError("it cannot tell where an entry lies")
    places = faiss.vector_to_array(index.direct_map.array)
    seen, lists = np.zeros(index.ntotal, bool), index.invlists
    for number in range(index.nlist):
        size = lists.list_size(number)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size) if size else np.zeros(0, np.int64)
        if size and not (ids.min() >= 0 and ids.max() < index.ntotal):
            raise ValueError("its lists name entries that are not there")
        if (places[ids] != (number << 32) + np.arange(size)).any():
            raise ValueError("its lists contradict its table")
        seen[ids] = True
    if len(places) != index.ntotal or not seen.all():
        raise ValueError("its lists lack entries")


def _check_lengths(index: faiss.Index, path: Path) -> None:
    """Cosines are inner products of unit vectors only; of large indexes a sample is looked at."""
    few = index.ntotal <= SAMPLE or path.stat().st_size < LARGE
    ids = range(index.ntotal) if few else np.linspace(0, index.ntotal - 1, SAMPLE).astype(int)
    for start in range(0, len(ids), SAMPLE):
        vectors = index.reconstruct_batch(np.asarray(ids[start : start + SAMPLE], np.int64))
        lengths = np.linalg.norm(vectors, axis=1)
        # a picture that is nothing but average has no direction; NaN is neither
        if not ((abs(lengths - 1) < UNIT) | (lengths == 0)).all():
            raise ValueError("its vectors are not of unit length")
