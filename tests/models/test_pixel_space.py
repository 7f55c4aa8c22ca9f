"""A model that paints small pictures as they are: no autoencoder, classes, 32 x 32 pixels."""

import json

import numpy as np
import pytest
import torch
from conftest import picture, seeded

from rissole.app.assets import texts
from rissole.app.databases import Sources
from rissole.app.studio import Studio
from rissole.config import RissoleError
from rissole.data.images import to_tensor
from rissole.data.sources import open_source
from rissole.loading import write_bundle
from rissole.models.autoencoder import Codec, PixelSpace
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.models.scheduler import default_scheduler
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.contents import build_database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.storage.manifest import write_manifest

NAMES = ["frog", None, "ship"]


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "small"
    pictures = [picture(i).resize((32, 32)) for i in range(24)]
    images = to_tensor(pictures)
    codec = Codec(PixelSpace.fit((images + 1).mul(127.5).byte()))
    latents = codec.encode(images)
    shape = DenoiserConfig(latent_channels=3, channels=(16, 32), canvas_channels=(16, 32),
                           canvas_layers=2, block_layers=1, head_channels=16)  # fmt: skip
    defaults = {"order": "parallel", "grid": 4, "num_inference_steps": 2, "guidance_scale": 1.5,
                "k": 4}  # fmt: skip
    embedding = LatentEmbedding.fit(latents)
    classes = [NAMES[i % 3] for i in range(24)]
    build_database(
        folder / "database", pictures, codec, embedding, "colors", latents, classes=classes
    )
    config = {"name": "small", "image_size": 32, "defaults": defaults}
    denoiser = seeded(Denoiser(shape), 1)
    write_bundle(folder, codec, denoiser, default_scheduler(), embedding, config)
    write_manifest(folder, "small")
    return folder


@pytest.fixture(scope="module")
def small(small_bundle) -> RissolePipeline:
    return RissolePipeline.from_pretrained(small_bundle)


def test_bundle_has_no_autoencoder_weights(small, small_bundle):
    assert [path.name for path in (small_bundle / "autoencoder").iterdir()] == ["config.json"]
    assert small.num_parameters()["autoencoder"] == 0
    assert small.image_size == 32
    assert "pixels" in Studio(Sources(small), texts()).size
    pixels = to_tensor(small.database.image(3))
    kept = small.codec.decode(small.database.latents([3]))
    assert (pixels - kept).abs().mean() < 0.1  # WebP loses a little


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_every_order_and_grid_paints(small, grid):
    hits = small.retrieve(item=2, k=4)
    for order in ("parallel", "sequential", "independent"):
        out = small(hits, seed=0, order=order, grid=grid)
        assert out.images[0].size == (32, 32)
        assert out.attention.shape == (grid, grid, 4)
        assert small(**out.recipe).images[0].tobytes() == out.images[0].tobytes()
    steps = list(small.stream(hits, seed=0, order="sequential", grid=grid))
    whole = np.asarray(small(hits, seed=0, order="sequential", grid=grid).images[0])
    assert (np.asarray(steps[-1].preview) == whole).all()
    assert all(step.preview.size == (32, 32) for step in steps)


def test_classes_are_shown_and_filter(small):
    hits = small.retrieve(item=0, k=8)
    assert hits.labels == [NAMES[i % 3] for i in hits.ids]
    ships = small.retrieve(item=0, k=8, label="ship")
    assert ships.labels == ["ship"] * 8
    assert small.retrieve(image=picture(3), k=16, label="frog").ids
    assert len(small.retrieve(image=picture(3), k=16, label="frog").ids) == 8
    assert {small.retrieve(label="frog", seed=s, k=1).item % 3 for s in range(9)} == {0}
    assert small.database.classes == ["frog", "ship"]
    with pytest.raises(RissoleError, match="it has: frog, ship"):
        small.retrieve(label="cat")


def test_database_with_classes_for_it(small, tmp_path):
    for i in range(4):
        for name in ("cat", "dog"):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            picture(50 + i + 10 * (name == "dog")).save(tmp_path / "in" / name / f"{i}.png")
    build_index(small.indexing_parts(), open_source(tmp_path / "in"), tmp_path / "db")
    other = small.with_database(tmp_path / "db")
    assert other.database.labels(range(8)) == ["cat"] * 4 + ["dog"] * 4
    assert other.database.image(0).size == (32, 32)
    assert other(other.retrieve(label="dog", k=2), seed=0).images[0].size == (32, 32)


def test_own_pictures_and_saving(small, tmp_path):
    own = small.with_pictures([picture(1), picture(2)])
    assert own.retrieve(image=picture(2), k=1).ids == [1]
    small.save_pretrained(tmp_path / "copy")
    again = RissolePipeline.from_pretrained(tmp_path / "copy")
    assert again.fingerprint == small.fingerprint
    assert (
        json.loads((tmp_path / "copy" / "autoencoder" / "config.json").read_text())["_class_name"]
        == "PixelSpace"
    )
    assert torch.equal(again.database.latents([0]), small.database.latents([0]))


def test_database_of_another_model_is_refused(small, pipe):
    with pytest.raises(RissoleError, match="latents differ in shape"):
        small.with_database(pipe.database)
