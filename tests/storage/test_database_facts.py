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


def test_databases_of_the_first_versions_knew_one_encoder_and_one_kind_of_index():
    facts = DatabaseFacts.from_json({"count": 3, "label": "cats", "image_size": 128})
    assert (facts.encoder, facts.encoder_name, facts.index.probes) == (None, "latent", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": True}, "odd count"),
        ({"classes": ["calm", None]}, "odd classes"),
        ({"encoder": None}, "odd encoder"),
        ({"index": {"type": "IVF", "probes": 2.5}}, "odd index"),
    ],
)
def test_odd_facts_are_named(change, words):
    sound = DatabaseFacts(3, "cats", 128, MARK).to_json()
    with pytest.raises(ValueError, match=words):
        DatabaseFacts.from_json({**sound, **change})
    with pytest.raises(ValueError, match="odd database.json"):
        DatabaseFacts.from_json([sound])
