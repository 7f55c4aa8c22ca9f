"""Bundles of real photos: what is left out of them, and what they carry."""

from __future__ import annotations

import pytest
from conftest import picture

from rissole.app.about import card_facts
from rissole.cli import main
from rissole.data.items import read_names
from rissole.pipeline import RissolePipeline

CARD = "---\nlicense: cc0-1.0\n---\n# garments\n"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six pictures in two classes, and a list that leaves two of them out."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        place = folder / "photos" / ("shirt" if number % 2 else "hat")
        place.mkdir(parents=True, exist_ok=True)
        picture(number).save(place / f"{number}.png")
    listed = "# why\n1.png\ta large brand\n\nhat/4.png\nshirt/4.png\n"  # the last one is not there
    (folder / "left-out.txt").write_text(listed)
    (folder / "card.md").write_text(CARD)
    return folder


def test_photos_that_may_be_shared_take_the_place_of_the_gallery(
    photos, tiny_bundle, tmp_path, capsys
):
    made, out = tmp_path / "db", tmp_path / "garments-128"
    listed = ["--leave-out", str(photos / "left-out.txt")]
    bundle = ["--bundle", str(tiny_bundle)]
    assert main(["index", str(photos / "photos"), *bundle, *listed, "--out", str(made)]) == 0
    told = (made / "left-out.json").read_text()
    assert told.count("on the list of those to leave out") == 2
    assert "1 of 3 names on the list are of no picture" in capsys.readouterr().err
    card = ["--card", str(photos / "card.md")]
    assert main(["join", str(tiny_bundle), str(made), *card, "--out", str(out)]) == 0
    pipe = RissolePipeline.from_pretrained(out)
    assert (len(pipe.database), pipe.config["name"]) == (4, "garments-128")
    assert sorted(pipe.database.labels(range(4))) == ["hat", "hat", "shirt", "shirt"]
    assert pipe.retrieve(text="shirts", k=2).labels == ["shirt", "shirt"]
    assert card_facts(pipe)["license"] == "CC0 1.0"
    assert pipe.fingerprint == RissolePipeline.from_pretrained(tiny_bundle).fingerprint
    assert not list(out.rglob("left-out.json"))  # names of files stay with their maker


def test_vectors_for_words_travel_with_a_bundle(tiny_bundle, clip_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    out, clip = tmp_path / "words", ["--clip", str(clip_folder)]
    assert main(["join", str(tiny_bundle), *clip, "--out", str(out)]) == 0
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "empty"))
    there = RissolePipeline.from_pretrained(out, clip=str(clip_folder))
    assert there.database.ready(there.retriever.encoders["clip"])
    assert len(there.retrieve(text="a ginger cat", k=3).ids) == 3
    assert not (tmp_path / "empty").exists()
    before = RissolePipeline.from_pretrained(tiny_bundle)
    assert there.database.fingerprint == before.database.fingerprint  # recipes stay good


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["join", "BUNDLE", "--out", "OUT"], "there is nothing to join"),
        (["join", "BUNDLE", "--clip", "x", "--card", "no.md", "--out", "OUT"], "cannot read no.md"),
        (["index", ".", "--leave-out", "no.txt", "--out", "OUT"], "cannot read no.txt"),
    ],
)
def test_what_is_missing_is_told_in_one_line(command, line, tiny_bundle, tmp_path, capsys):
    places = {"BUNDLE": str(tiny_bundle), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in command]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_a_list_names_files_and_leaves_remarks_alone(photos):
    assert read_names(photos / "left-out.txt") == {"1.png", "hat/4.png", "shirt/4.png"}
