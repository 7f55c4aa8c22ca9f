"""What a database says of itself, there and back."""

import json
from pathlib import Path

import pytest
from loopback_hub import ROOT

from rissole.storage.database_facts import DatabaseFacts, EncoderMark, IndexFacts, VectorFacts

MARK = EncoderMark("latent", "latent-0123456789ab")
LARGE = IndexFacts("IVF2048,SQfp16", probes=16, recall_at_8=0.9873, queries=256)


@pytest.mark.parametrize(
    "facts",
    [
        DatabaseFacts(3, "cats", 128),
        DatabaseFacts(3, "cats", 128, MARK, IndexFacts(), ("calm", "wild")),
        DatabaseFacts(1_000_000, "everything", 64, MARK, LARGE),
    ],
)
def test_facts_come_back_as_they_were(facts, tmp_path):
    facts.write(tmp_path)
    assert DatabaseFacts.read(tmp_path) == facts


def test_facts_of_vectors_come_back_as_they_were(tmp_path):
    VectorFacts(MARK, LARGE).write(tmp_path)
    assert VectorFacts.read(tmp_path) == VectorFacts(MARK, LARGE)


@pytest.mark.parametrize("path", sorted(ROOT.glob("checkpoints/*/database")), ids=str)
def test_the_facts_of_shipped_databases_are_written_as_they_are(path: Path):
    stored = (path / "database.json").read_text()
    assert json.dumps(DatabaseFacts.read(path).to_json(), indent=1) + "\n" == stored


def test_databases_of_the_first_versions_knew_one_encoder_and_one_kind_of_index(tmp_path):
    stored = {"count": 3, "label": "cats", "image_size": 128}
    (tmp_path / "database.json").write_text(json.dumps(stored))
    facts = DatabaseFacts.read(tmp_path)
    assert (facts.encoder, facts.encoder_name, facts.index.probes) == (None, "latent", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": True}, "odd count"),
        ({"count": 0}, "odd count"),
        ({"count": 10**20}, "odd count"),
        ({"count": 3.0}, "odd count"),
        ({"label": None}, "odd label"),
        ({"classes": ["calm", None]}, r"odd classes\.1"),
        ({"classes": ["calm"] * (2**15 + 1)}, "odd classes: .* at most 32768 items"),
        ({"encoder": {"name": "latent"}}, r"odd encoder\.id: missing"),
        ({"encoder": {"name": "latent", "id": "x", "more": 1}}, "unknown 'more'"),
        ({"index": None}, "odd index"),
        ({"index": {"type": "IVF", "probes": 2}}, r"odd index\.type"),
        ({"index": {"type": "IVF64,SQfp16", "probes": 2.5}}, r"odd index\.probes"),
        ({"index": {"type": "exact", "recall_at_8": float("nan")}}, r"odd index\.recall_at_8"),
        ({"format": 2}, "odd format"),
        ({"color": "red"}, "unknown 'color'"),
        ({"\n" * 500: 1}, "unknown '"),
    ],
)
def test_odd_facts_are_named(change, words, tmp_path):
    sound = DatabaseFacts(3, "cats", 128, MARK).to_json()
    (tmp_path / "database.json").write_text(json.dumps({**sound, **change}))
    with pytest.raises(ValueError, match=words) as caught:
        DatabaseFacts.read(tmp_path)
    assert len(str(caught.value)) < 200 and str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "3", "", "{", "[" * 9999, b"\xff\xfe", "null", '"x"'])
def test_what_is_no_object_is_named(text, tmp_path):
    (tmp_path / "database.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"odd database\.json"):
        DatabaseFacts.read(tmp_path)
