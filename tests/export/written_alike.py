"""Texts that Python and JavaScript must write and read alike, as Python does.

`python tests/export/written_alike.py` writes the file that the tests of both languages read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rissole.app.links import encode
from rissole.app.variants import Axis, spelled
from rissole.config import Recipe, RissoleError
from rissole.noise import normal
from rissole.retrieval.duplicates import correlation
from rissole.retrieval.training_photos import TrainingPhotos
from rissole.retrieval.words import named_classes
from rissole.runs import as_python

FILE = Path(__file__).parents[1] / "golden" / "written_alike.json"
CLASSES = (
    "rose", "fire lily", "tiger lily", "daisy", "dress", "sheath", "black-eyed susan", "T_shirt",
    "bird's foot", "Öland", "fox", "bush", "peach", "2 pansies", "the moss",
)  # fmt: skip
ASKED = (
    "rose", "Roses", "a rose", "the ROSES", "red rose", "lily", "lilies", "tiger lilies", "daisies",
    "dresses", "dress", "sheaths", "susan", "t shirt", "t-shirts", "birds foot", "bird foot",
    "öland", "foxes", "bushes", "peaches", "pansy", "2", "moss", "", "  ", "a", "the an",
    "rose daisy", "🌹",
)  # fmt: skip
AXES = (
    ("k", "1, 4,8"), ("guidance", "0, 1, 1.5"), ("order", "par, seq"), ("seed", str(2**64 - 1)),
    ("k", ""), ("k", "1,1"), ("k", "1,2,3,4,5,6,7"), ("k", "1.5"), ("guidance", "warm"),
    ("grid", "x"), ("order", "any"), ("color", "1"), ("steps", "-3"),
)  # fmt: skip
BASE = Recipe.validated(bundle="1f3a", database="77c0", neighbors=[3, 17, 5], seed=2**64 - 1)
RECIPES = (
    BASE,
    Recipe.validated(neighbors=[9], grid=1, guidance_scale=0, num_inference_steps=200),
    Recipe.validated(
        bundle="1f3a", database="77c0", neighbors=[4], blocks=[(1, 2), (0, 3)], init=BASE,
        order="independent", guidance_scale=0.00001, block_neighbors={(1, 2): [2, 4]},
    ),
)  # fmt: skip


def made() -> dict[str, Any]:
    """Everything in the file."""
    return {
        "classes": CLASSES,
        "named": {text: named_classes(text, CLASSES) for text in ASKED},
        "programs": [
            {"link": encode(one), "python": as_python(one.to_dict(), "cats-128")} for one in RECIPES
        ],
        "axes": [read(setting, text) for setting, text in AXES],
        "correlations": [correlated(seed) for seed in range(4)],
        "nearness": [near(cells) for cells in (3, 4)],
    }


def read(setting: str, text: str) -> dict[str, Any]:
    """What the values of an axis are read as, or why they are refused."""
    given = {"setting": setting, "values": text}
    try:
        return {"given": given, "values": list(map(spelled, Axis.parse(setting, text).values))}
    except RissoleError as error:
        return {"given": given, "refused": str(error)}


def correlated(seed: int) -> float:
    """Of two latents that share more and more."""
    shape = (4, 8, 8)
    one, other = normal(seed, shape).numpy(), normal(seed + 100, shape).numpy()
    return round(float(correlation(one, np.float32(seed) * one + other)), 5)


def near(cells: int) -> dict[str, Any]:
    """A latent beside photos of which the second is its mirror image, but for a little."""
    shape = {"channels": 2, "size": 8}
    latents, held = normal(cells, (5, 2, 8, 8)), normal(cells + 100, (4, 2, 8, 8))
    photos = TrainingPhotos.fit(latents, held, cells)
    latent = latents[1:2].flip(-1) + 0.25
    numbers = [round(n, 5) for n in [*photos.means.flatten().tolist(), *photos.usual.tolist()]]
    values = [round(n, 5) for n in latent.flatten().tolist()]
    _, distance, nearer = photos.nearness(latent)
    known = {
        "numbers": numbers,
        "shape": {"count": 5, "cells": cells},
        "latent": values,
        "of": shape,
    }
    return known | {"distance": round(distance, 4), "nearer": nearer, "told": photos.told(latent)}


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n")
