"""Whatever is read survives any damage: it is refused in one line, or what comes of it is sound.

`pytest tests/test_fuzz.py -m slow` makes 100,000 mutations; a few hundred run each time.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter
from random import Random

import numpy as np
import pytest
from conftest import SIZE, picture
from mutations import damaged, no_hang, odd_json

from rissole.app.links import decode, encode
from rissole.config import Recipe, RissoleError
from rissole.data.images import load_image, read_recipe, save_png
from rissole.loading import read_config
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import load_denoiser
from rissole.models.scheduler import load_scheduler
from rissole.retrieval.database import Database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.index import VectorIndex, build
from rissole.storage.manifest import MANIFEST, check_file, read_manifest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends what hangs by a signal of Unix")
SHARES = [pytest.param(0.005, id="few"), pytest.param(1.0, id="all", marks=pytest.mark.slow)]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


@pytest.fixture(params=SHARES)
def share(request) -> float:
    """Of all mutations, those that are made."""
    return request.param


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def attack(share, record_property, request):
    """Tries mutations; `sound` raises RissoleError, or returns what must be true."""

    def attack(name, times, seeds, mutate, sound) -> None:
        rng, told = Random(f"{request.node.originalname} {name}"), Counter()
        for n in range(max(3, round(times * share))):
            data = mutate(seeds[n % len(seeds)], rng)
            try:
                with no_hang():
                    assert sound(data), f"{name}, mutation {n}"
                told["sound"] += 1
            except RissoleError as error:
                told["refused"] += 1
                text = str(error)
                assert text and len(text.splitlines()) == 1 and len(text) < 500, text
        record_property(name, dict(told))
        print(f"{name}: {dict(told)}")

    return attack


def test_pictures(attack):
    seeds = []
    for n, kind in enumerate(FORMATS):
        buffer = io.BytesIO()
        picture(n).resize((24, 20)).save(buffer, kind)
        seeds.append(buffer.getvalue())

    def sound(data):
        image = load_image(data)
        return image.mode == "RGB" and image.width * image.height <= 40_000_000

    attack("pictures", 20_000, seeds, damaged, sound)


def test_pictures_with_a_recipe(attack):
    recipe = Recipe.validated(bundle="1f3a", database="77c0", neighbors=[3, 17, 5], seed=42)
    buffer = io.BytesIO()
    save_png(picture(0).resize((16, 16)), buffer, recipe.to_dict())

    def sound(data):
        found = read_recipe(data)
        return found is None or Recipe.from_dict(found) == recipe

    attack("recipes", 20_000, [buffer.getvalue()], damaged, sound)


def test_links(attack):
    recipe = Recipe.validated(
        bundle="1f3a", database="77c0", neighbors=[3, 17, 5], block_neighbors={(0, 1): [9]}, seed=7
    )
    repaint = {**recipe.to_dict(), "block_neighbors": {}, "blocks": [(1, 2)], "seed": 2**64 - 1}
    for times in range(3):

        def sound(data, recipe=recipe):
            return decode(data.decode("latin-1")) == recipe

        attack(f"links of {times} repaints", 10_000, [encode(recipe, 17).encode()], damaged, sound)
        recipe = Recipe.validated(**{**repaint, "init": recipe})


def test_manifests(attack, bundle):
    path, before = bundle / MANIFEST, read_manifest(bundle)["files"]

    def sound(data):
        path.write_bytes(data)
        files = read_manifest(bundle)["files"]
        if files != before:  # another list of files: none of the files is as it says
            for name, expected in files.items():
                check_file(bundle, name, expected)
        return files.items() <= before.items()

    attack("manifests", 10_000, [path.read_bytes()], odd_json, sound)


def test_signed_files(attack, bundle):
    files = read_manifest(bundle)["files"]
    for name, expected in files.items():
        path = bundle / name
        whole = path.read_bytes()

        def sound(data, path=path, name=name, expected=expected, whole=whole):
            path.write_bytes(data)
            check_file(bundle, name, expected)
            return data == whole

        attack(f"signed {name}", 100, [whole], damaged, sound)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("path", "times", "load"),
    [
        ("config.json", 5_000, lambda folder: read_config(folder)),
        ("scheduler/scheduler_config.json", 4_000, lambda f: load_scheduler(f / "scheduler")),
        ("autoencoder/config.json", 1_500, lambda folder: Codec.load(folder / "autoencoder")),
        ("database/database.json", 4_500, lambda folder: opened(folder)),
    ],
)
def test_settings_whose_manifest_was_made_anew(attack, bundle, path, times, load):
    def sound(data):
        (bundle / path).write_bytes(data)
        return load(bundle) is not None

    attack(path, times, [(bundle / path).read_bytes()], odd_json, sound)


def opened(folder) -> bool:
    """Whether a database that can be opened can be used."""
    database = Database.open(folder / "database", "0" * 12)
    ids, scores = database.search(database.vector(0), 3)
    sound = database.latents(ids).isfinite().all() and np.isfinite(scores).all()
    return bool(sound and all(database.image(i).size == (SIZE, SIZE) for i in ids))


@pytest.mark.parametrize(
    ("path", "times", "load"),
    [
        ("denoiser/model.safetensors", 1_000, lambda folder: load_denoiser(folder / "denoiser")),
        (
            "autoencoder/diffusion_pytorch_model.safetensors",
            1_000,
            lambda folder: Codec.load(folder / "autoencoder"),
        ),
        (
            "embedding/embedding.safetensors",
            3_000,
            lambda folder: LatentEmbedding.load(folder / "embedding").mean.isfinite().all(),
        ),
        ("database/latents.safetensors", 2_000, lambda folder: opened(folder)),
        ("database/thumbnails.safetensors", 2_000, lambda folder: opened(folder)),
        ("database/index.faiss", 3_000, lambda folder: opened(folder)),
    ],
)
def test_data_whose_manifest_was_made_anew(attack, bundle, path, times, load):
    file = bundle / path
    whole = file.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little") if file.suffix == ".safetensors" else 64

    def mutate(data, rng):
        """Heads decide what is read, and are small: every second mutation is one of theirs."""
        if rng.random() < 0.5:
            return damaged(data[:head], rng) + data[head:]
        return damaged(data, rng)

    def sound(data):
        file.unlink()  # what is mapped into memory must not change under its reader
        file.write_bytes(data)
        return bool(load(bundle) is not None)

    attack(path, times, [whole], mutate, sound)


def test_indexes_of_lists(attack, tmp_path):
    rng = np.random.default_rng(0)
    made = rng.standard_normal((300, 8)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    path = tmp_path / "index.faiss"
    facts = build(path, lambda: iter([made]), len(made), 8, exact=10)

    def sound(data):
        path.unlink()
        path.write_bytes(data)
        index = VectorIndex.load(path, facts, len(made))
        scores, ids = index.search(made[:2], 4, np.arange(300) % 2 == 0)
        return np.isfinite(index.vector(7)).all() and ids.max() < 300 and scores.max() < 2

    attack("indexes of lists", 3_000, [path.read_bytes()], damaged, sound)
