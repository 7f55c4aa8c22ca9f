import struct

import numpy as np
import pytest

from rissole.config import RissoleError
from rissole.retrieval.index import RECALL, VectorIndex, build, exact_neighbors, recall_at
from rissole.storage.database_facts import IndexFacts

COUNT, DIM = 4000, 16


@pytest.fixture(scope="module")
def entries() -> np.ndarray:
    """Unit vectors in clusters, as those of pictures are."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((100, DIM))
    vectors = centers[rng.integers(0, 100, COUNT)] + 0.5 * rng.standard_normal((COUNT, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def chunks_of(entries):
    return lambda: (entries[start : start + 700] for start in range(0, len(entries), 700))


def test_small_index_is_exact_and_large_one_states_a_recall_it_keeps(entries, tmp_path):
    chunks = chunks_of(entries)
    small = build(tmp_path / "small.faiss", chunks, COUNT, DIM)
    large = build(tmp_path / "large.faiss", chunks, COUNT, DIM, exact=1000)
    assert small == IndexFacts(type="exact")
    assert large.type == "IVF256,SQfp16"
    assert large.recall_at_8 >= RECALL
    rng = np.random.default_rng(1)
    queries = entries[rng.integers(0, COUNT, 200)] + 0.02 * rng.standard_normal((200, DIM))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    truth = np.argsort(-queries @ entries.astype(np.float32).T, axis=1)[:, :8]
    assert (exact_neighbors(queries, chunks, 8) == truth).mean() > 0.99
    exact = VectorIndex.load(tmp_path / "small.faiss", small, COUNT)
    fast = VectorIndex.load(tmp_path / "large.faiss", large, COUNT)
    assert recall_at(exact.search(queries, 8)[1], truth) > 0.99
    assert recall_at(fast.search(queries, 8)[1], truth) > RECALL - 0.03
    assert np.allclose(fast.vector(123), entries[123], atol=2e-3)


def test_filter_finds_what_is_allowed_in_both_kinds(entries, tmp_path):
    allowed = np.zeros(COUNT, bool)
    allowed[::97] = True
    query = entries[:1].astype(np.float32)
    best = np.flatnonzero(allowed)[
        np.argsort(-(entries[allowed].astype(np.float32) @ query[0]))[:5]
    ]
    for exact in (COUNT, 1000):
        info = build(tmp_path / f"{exact}.faiss", chunks_of(entries), COUNT, DIM, exact=exact)
        index = VectorIndex.load(tmp_path / f"{exact}.faiss", info, COUNT)
        assert index.search(query, 5, allowed)[1][0].tolist() == best.tolist()


def test_queries_that_cannot_be_searched_are_one_line(entries):
    index = VectorIndex.exact(entries)
    with pytest.raises(RissoleError, match="no usable embedding"):
        index.search(np.full((1, DIM), np.nan), 3)
    with pytest.raises(RissoleError, match="of another encoder"):
        index.search(np.ones((1, DIM + 1)), 3)
    few = VectorIndex.exact(entries[:3])
    assert few.search(entries[:1], 8)[1].shape == (1, 3)


def test_index_files_that_are_none_are_one_line(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"no index")
    with pytest.raises(RissoleError, match="no usable index"):
        VectorIndex.load(tmp_path / "index.faiss", IndexFacts(), 1)


@pytest.mark.parametrize("held", [64, 64 * 8, 300])  # lists, numbers of centers, entries
def test_lengths_beyond_the_file_are_refused_before_room_is_taken_for_them(tmp_path, held):
    path, made = tmp_path / "index.faiss", np.random.default_rng(0).standard_normal((300, 8))
    made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    facts = build(path, lambda: iter([made]), 300, 8, exact=10)
    whole, said = path.read_bytes(), struct.pack("<Q", held)
    places = [at for at in range(37, len(whole) - 8) if whole[at : at + 8] == said]
    assert places
    for at in places[:20]:
        path.unlink()  # it is mapped into memory
        path.write_bytes(whole[:at] + struct.pack("<Q", 2**36) + whole[at + 8 :])
        with pytest.raises(RissoleError, match="no usable index"):
            VectorIndex.load(path, facts, 300)
