"""Names of classes are words that need no model."""

import pytest

from rissole.config import RissoleError
from rissole.retrieval.words import named_classes

FLOWERS = ["rose", "desert-rose", "tiger lily", "fire lily", "daisy", "iris", "bird of paradise"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rose", ["rose"]),
        ("Roses", ["rose"]),
        (" a rose ", ["rose"]),
        ("lilies", ["tiger lily", "fire lily"]),
        ("Tiger Lily", ["tiger lily"]),
        ("the Desert_Roses", ["desert-rose"]),
        ("daisies", ["daisy"]),
        ("irises", []),  # no plural of that kind is known: better none than a wrong one
        ("birds of paradise", ["bird of paradise"]),
        ("red rose", []),
        ("the", []),
        ("?!", []),
        ("", []),
    ],
)
def test_words_name_classes(text, named):
    assert named_classes(text, FLOWERS) == named


@pytest.mark.parametrize("name", ["dress", "pants", "t-shirt", "sheath", "box", "children's bus"])
def test_a_class_is_found_by_its_own_name_whatever_it_ends_in(name):
    assert named_classes(name.upper(), [name, "other"]) == [name]


def test_the_name_of_a_class_finds_what_is_typical_of_it_without_a_model(pipe, databases):
    moods = pipe.with_database(databases / "moods")
    hits = moods.retrieve(text="Calm", k=4)
    assert set(hits.labels) == {"calm"}
    assert hits.text == "Calm" and hits.item is None
    assert hits.scores == sorted(hits.scores, reverse=True)
    vectors = [moods.database.vector(i) for i in range(0, 10, 2)]  # all that are calm
    middle = sum(vectors) / len(vectors)
    nearest = max(range(5), key=lambda n: float(vectors[n] @ middle))
    assert hits.ids[0] == 2 * nearest
    assert moods(hits, seed=0, num_inference_steps=1).recipe["neighbors"] == hits.ids
    with pytest.raises(RissoleError, match=r"no text encoder .*classes need none: calm, wild"):
        moods.retrieve(text="stormy", k=4)
