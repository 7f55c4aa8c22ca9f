"""An encoder from outside the package: registered in a dozen lines, then it works everywhere."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import picture
from loopback_hub import ROOT

from rissole.app.databases import usable
from rissole.config import RissoleError
from rissole.data.images import to_tensor
from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.registry import GROUP
from rissole.retrieval.building import build_index
from rissole.retrieval.encoders import (
    ENCODERS,
    BundleParts,
    CornerEncoder,
    encoder_names,
    load_encoders,
)

TOY = """
import torch.nn.functional as F
from rissole.retrieval.encoders import ENCODERS, QueryEncoder

@ENCODERS.register
class ColorEncoder(QueryEncoder):
    name, label, id, dim = "color", "Alike in color", "color-4x4", 48

    @classmethod
    def from_bundle(cls, bundle):
        return cls()

    def __call__(self, pixels, latents):
        return F.normalize(F.adaptive_avg_pool2d(pixels, 4).flatten(1).float(), dim=1)
"""


@pytest.fixture
def colored(tiny_bundle, tmp_path, monkeypatch) -> RissolePipeline:
    """The tiny pipeline while the toy encoder is registered."""
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))
    exec(TOY, {})
    return RissolePipeline.from_pretrained(tiny_bundle)


def test_own_encoders_are_listed_in_the_order_of_the_menu():
    assert encoder_names()[:4] == ["latent", "latent-corner", "learned", "clip"]
    assert all(kind.label for kind in ENCODERS)


def test_a_toy_encoder_searches_and_can_be_chosen(colored):
    hits = colored.retrieve(item=3, k=4, encoder="color")
    pixels = to_tensor([colored.database.image(i) for i in range(24)])
    made = torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)
    scores = torch.nn.functional.cosine_similarity(made, made[3:4])
    scores[3] = -2
    assert hits.ids == scores.topk(4).indices.tolist()
    assert colored.with_encoder("color").retrieve(item=3, k=4).ids == hits.ids
    assert usable(colored)[-1] == "color"
    with pytest.raises(RissoleError, match="cannot read text: start with --clip"):
        colored.retrieve(text="blue", encoder="color")


def test_a_database_keeps_the_vectors_of_a_toy_encoder(colored, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(5):
        picture(40 + i).save(tmp_path / "photos" / f"{i}.png")
    build_index(colored.indexing_parts(), open_source(tmp_path / "photos"), tmp_path / "db")
    assert [path.name for path in (tmp_path / "db" / "encoders").iterdir()] == ["color"]
    own = colored.with_database(tmp_path / "db")
    assert own.retrieve(image=picture(42), k=1, encoder="color").ids == [2]
    assert not (tmp_path / "cache").exists()  # nothing had to be made


def test_unknown_encoders_are_one_line_that_names_the_toy_as_well(colored):
    with pytest.raises(RissoleError, match="one of latent, .*, clip, color, not 'magic'"):
        colored.retrieve(item=0, encoder="magic")


def test_an_encoder_that_is_given_takes_the_place_of_one_that_would_be_loaded(pipe):
    bundle = BundleParts(pipe.embedding, pipe.database.latent_shape)
    given = CornerEncoder(4, 16)
    found = load_encoders(bundle, [given])
    assert list(found)[:2] == ["latent", "latent-corner"]
    assert found["latent-corner"] is given
    assert "learned" not in found  # there is no folder that could have one


def test_the_command_line_takes_an_encoder_of_an_installed_package(tiny_bundle, tmp_path):
    (tmp_path / "toy_encoder.py").write_text(TOY)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntoy = toy_encoder\n")
    command = ["sample", "--bundle", tiny_bundle, "--steps", "1", "--seed", "0", "--out"]
    done = subprocess.run(
        [sys.executable, "-m", "rissole", *map(str, command), tmp_path / "a.png",
         "--encoder", "color"],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RISSOLE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").is_file()
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.name.endswith("-color-4x4")
