"""The embedded bundles themselves: they paint without seams, and their neighbors matter."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rissole import RissolePipeline
from rissole.data.images import to_tensor
from rissole.evaluation.seams import seam_ratio
from rissole.storage.manifest import verify
from rissole.storage.resolve import resolve

SEEDS = range(4)
STEPS = 3


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


@pytest.fixture(scope="module")
def objects() -> RissolePipeline:
    return RissolePipeline.from_pretrained("cifar10-32")


@pytest.mark.parametrize("name", ["cats-128", "flowers-128", "clothes-128", "cifar10-32"])
def test_bundle_is_whole_and_within_its_limits(name):
    folder = resolve(name)
    manifest = verify(folder)
    assert sum(entry["size"] for entry in manifest["files"].values()) < 64e6
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


def test_ten_classes_are_painted_straight_on_pixels(objects):
    parameters = objects.num_parameters()
    assert parameters["denoiser"] <= 10_000_000 and parameters["autoencoder"] == 0
    assert sum(p.numel() for p in objects.retriever.encoder.parameters()) <= 3_000_000
    assert objects.database.image(0).size == (32, 32)
    names = objects.database.labels(range(len(objects.database)))
    assert Counter(names) == dict.fromkeys(objects.database.classes, 100)
    assert len(objects.database.classes) == 10


def test_class_decides_what_is_painted(objects):
    kinds = {}
    for name in ("ship", "frog"):
        hits = [objects.retrieve(label=name, k=8, seed=s) for s in SEEDS]
        assert {label for found in hits for label in found.labels} == {name}
        kinds[name] = torch.cat(
            [paint(objects, [s], neighbors=h.ids) for s, h in zip(SEEDS, hits, strict=True)]
        ).mean((2, 3))
    bluer = [(kind[:, 2] - kind[:, 0]).mean() for kind in kinds.values()]
    assert bluer[0] > bluer[1] + 0.3  # the sea is bluer than a frog
