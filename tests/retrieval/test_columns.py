import numpy as np
import pytest
from safetensors.numpy import load_file

from rissole.retrieval.columns import HEADER, Column
from rissole.retrieval.duplicates import Duplicates


def test_a_column_is_cut_back_to_what_is_known_to_be_whole(tmp_path):
    column = Column(tmp_path / "new" / "numbers", "f2", (2, 3))
    column.cut(0)
    rows = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    for row in rows:
        column.append(row)
    column.file.write(b"half a r")
    assert column.cut(3)
    assert (column.rows(3) == rows[:3]).all()
    assert (column.one(1) == rows[1]).all()
    column.append(rows[3])  # goes to the end, wherever was read
    assert (column.rows(4) == rows).all()
    assert not column.cut(5)  # something is missing


def test_a_described_column_is_a_safetensors_file(tmp_path):
    column = Column(tmp_path / "latents.safetensors", "f2", (4,), HEADER)
    column.cut(0)
    rows = np.arange(12, dtype=np.float16).reshape(3, 4)
    column.append(rows)
    column.describe({"latents": ("F16", [3, 4], 0)})
    column.flush()
    assert (load_file(column.path)["latents"] == rows).all()


@pytest.fixture
def known(tmp_path) -> dict[str, Column]:
    """Ten pictures of which latents and vectors are random."""
    columns = {
        "digests": Column(tmp_path / "digests", "u1", (16,)),
        "vectors-0": Column(tmp_path / "vectors", "f2", (64,)),
        "latents": Column(tmp_path / "latents", "f2", (4, 8, 8)),
    }
    rng = np.random.default_rng(0)
    for i in range(10):
        vector = rng.standard_normal(64)
        columns["digests"].append(bytes([i] * 16))
        columns["vectors-0"].append(vector / np.linalg.norm(vector))
        columns["latents"].append(rng.standard_normal((4, 8, 8)))
    return columns


def test_twins_and_near_copies_are_found_and_others_are_not(known):
    duplicates = Duplicates(known, 10)
    vector = known["vectors-0"].one(4).astype(np.float32)
    latent = known["latents"].one(4)
    other = known["latents"].one(5)
    assert duplicates.find(bytes([7] * 16), vector, latent) == "exact"
    assert duplicates.find(bytes(15) + b"x", vector, latent) == 4
    assert duplicates.find(bytes(15) + b"x", vector, other) is None  # alike to the encoder alone
    assert duplicates.find(bytes(15) + b"x", -vector, latent) is None
    duplicates.add(bytes(15) + b"x", vector)
    assert duplicates.find(bytes(15) + b"x", -vector, latent) == "exact"
