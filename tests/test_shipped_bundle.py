"""The embedded bundle itself: it paints cats without seams, and its neighbors matter."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rissole import RissolePipeline
from rissole.bundle import resolve, verify
from rissole.evaluation import seam_ratio
from rissole.images import to_tensor

SEEDS = range(8)
STEPS = 8


@pytest.fixture(scope="module")
def cats() -> RissolePipeline:
    return RissolePipeline.from_pretrained("cats-128")


@pytest.fixture(scope="module")
def brightness(cats) -> np.ndarray:
    return np.array([np.asarray(cats.database.image(i)).mean() for i in range(len(cats.database))])


def paint(pipe, seeds=SEEDS, **settings) -> torch.Tensor:
    outputs = [pipe(num_inference_steps=STEPS, seed=s, **settings).images[0] for s in seeds]
    return torch.cat([to_tensor(image) for image in outputs])


@pytest.fixture(scope="module")
def dark_and_light(cats, brightness) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with the neighbors of the darkest and of the lightest picture, same seeds."""
    items = (int(brightness.argmin()), int(brightness.argmax()))
    return tuple(paint(cats, neighbors=cats.retrieve(item=i, k=8).ids) for i in items)


def test_bundle_is_whole_and_within_its_limits():
    folder = resolve("cats-128")
    manifest = verify(folder)
    assert sum(entry["size"] for entry in manifest["files"].values()) < 60e6
    assert {Path(name).suffix for name in manifest["files"]} <= {
        ".safetensors", ".json", ".md", ".faiss"
    }  # fmt: skip


def test_model_and_gallery_have_the_agreed_size(cats):
    parameters = cats.num_parameters()
    assert parameters["denoiser"] <= 10_000_000
    assert parameters["autoencoder"] <= 3_000_000
    assert len(cats.database) >= 1024
    assert cats.database.image(0).size == (128, 128)


def test_gallery_latents_decode_to_its_pictures(cats):
    for item in (0, len(cats.database) - 1):
        decoded = np.asarray(cats.decode(cats.database.latents([item]))[0], np.float32)
        stored = np.asarray(cats.database.image(item), np.float32)
        assert np.abs(decoded - stored).mean() < 6  # WebP loses a little


def test_neighbors_decide_how_dark_the_cat_is(dark_and_light):
    dark, light = (pictures.mean((1, 2, 3)) for pictures in dark_and_light)
    assert (light > dark).all()
    assert light.mean() - dark.mean() > 0.3  # of 2, from black to white


def test_no_seams_in_parallel_and_many_when_blocks_are_independent(cats, dark_and_light):
    together = seam_ratio(torch.cat(dark_and_light))
    items = [3, 50, 400, 700]
    neighbors = [cats.retrieve(item=i, k=8).ids for i in items]
    apart = torch.cat([
        paint(cats, seeds=[s], neighbors=n, order="independent", guidance_scale=1.0)
        for s, n in enumerate(neighbors)
    ])  # fmt: skip
    assert together < 1.08
    assert seam_ratio(apart) > together + 0.1
