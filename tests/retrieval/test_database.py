"""Databases that somebody else made: nothing in them is taken on trust."""

import io
import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rissole.app.databases import Sources, usable
from rissole.config import RissoleError
from rissole.retrieval.database import list_databases
from rissole.retrieval.encoders import CornerEncoder
from rissole.storage.manifest import write_manifest


@pytest.fixture
def strange(databases, tmp_path):
    """A copy of a database, to change; its manifest is written anew by `sealed`."""
    shutil.copytree(databases / "moods", tmp_path / "strange")
    return tmp_path / "strange"


def sealed(folder):
    """Lists the files as they are now: whoever publishes a database can do so."""
    before = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, "strange", encoder=before["encoder"])
    return folder


def one_line(call, words: str) -> None:
    with pytest.raises(RissoleError, match=words) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"count": "10"},
        {"count": 10.0},
        {"label": 3},
        {"label": None},
        {"classes": "calm"},
        {"classes": ["calm", 3]},
        {"encoder": "latent"},
        {"encoder": {"name": "latent"}},
        {"encoder": {"name": ["latent"], "id": "x"}},
        {"index": "exact"},
        {"index": {"type": "exact", "probes": "many"}},
        {"index": {"type": "exact", "probes": 0}},
        {"image_size": "128"},
        {"image_size": -1},
    ],
)
def test_odd_facts_are_refused_in_one_line(pipe, strange, change):
    info = json.loads((strange / "database.json").read_text())
    (strange / "database.json").write_text(json.dumps({**info, **change}))
    name = next(iter(change))
    one_line(lambda: pipe.with_database(sealed(strange)), f"in strange/: odd {name}")
    assert list_databases(strange) == [] or name not in ("count", "label", "classes")
    assert len(Sources(pipe, [strange.parent]).entries()) in (1, 2)


def test_odd_classes_of_pictures_are_refused(pipe, strange):
    save_file({"labels": torch.zeros(10, 2, dtype=torch.int32)}, strange / "labels.safetensors")
    one_line(lambda: pipe.with_database(sealed(strange)), "in strange/: 'labels' has the shape")


def replaced(strange, data: bytes):
    """The same database with another file in place of the first picture."""
    thumbnails = load_file(strange / "thumbnails.safetensors")
    offsets, webp = thumbnails["offsets"], thumbnails["data"]
    new = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    moved = torch.cat([offsets[:1], offsets[1:] + len(new) - offsets[1]])
    whole = {"data": torch.cat([new, webp[offsets[1] :]]), "offsets": moved}
    save_file(whole, strange / "thumbnails.safetensors")
    return sealed(strange)


def encoded(size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"no picture",
        encoded((128, 128), "PNG"),  # another decoder than the one that is meant to see it
        encoded((16_000, 40), "WEBP"),
        encoded((128, 128), "WEBP")[:60],
    ],
)
def test_odd_thumbnails_are_refused_in_one_line(pipe, strange, data):
    opened = pipe.with_database(replaced(strange, data))
    one_line(lambda: opened.database.image(0), "picture 0 of the database strange is damaged")
    assert opened.database.image(1).size == (128, 128)


def test_odd_offsets_of_thumbnails_are_refused(pipe, strange):
    thumbnails = load_file(strange / "thumbnails.safetensors")
    for at, odd in ((0, -5), (3, 10**12), (10, 10**12)):
        offsets = thumbnails["offsets"].clone()
        offsets[at] = odd
        save_file({**thumbnails, "offsets": offsets}, strange / "thumbnails.safetensors")
        one_line(lambda: pipe.with_database(sealed(strange)), "no usable database in strange/")


def test_an_encoder_whose_vectors_are_there_can_be_chosen_for_any_number_of_pictures(
    pipe, strange, tmp_path, monkeypatch
):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rissole.app.databases.QUICK", 5)
    opened = pipe.with_database(sealed(strange))
    assert usable(opened) == ["latent"]
    opened.retriever.prepare("latent-corner")
    assert usable(opened) == ["latent", "latent-corner"]
    other = CornerEncoder(4, 32)
    other.id = "latent-corner-of-another-kind"
    opened.retriever.encoders = {**opened.retriever.encoders, "latent-corner": other}
    assert usable(opened) == ["latent"]
