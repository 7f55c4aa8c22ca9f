"""What CONTRIBUTING.md adds from outside the package, run as printed there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image
from safetensors.torch import load_file

from rissole import RissolePipeline
from rissole.data.images import read_recipe, to_pil
from rissole.training.checkpoint import read_state

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MODULES = re.findall(r"<!-- runs: (\w+\.py) -->\n```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^rissole (--plugin mine .*)$", TEXT, re.MULTILINE)


# one process for all lines: most of its time goes into importing the libraries
DRIVER = """
import contextlib, io, json, runpy, sys
from rissole.cli import main
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line) if len(line) > 1 else runpy.run_path(line[0]) and 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
WRONG = ["train", "--data", "photos", "--out", "refused", "--stage", "palette.txt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where somebody works: their modules, a few photos, latents to train on."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, code in MODULES:
        with (folder / name).open("a") as file:
            file.write(code + "\n\n")
    (folder / "photos").mkdir()
    for number in range(24):
        picture(number).save(folder / "photos" / f"{number:02}.png")
    (folder / "two.json").write_text('{"colors": 2}')
    (folder / "none.json").write_text('{"colors": 0}')
    return folder


def printed(word: str, *more: str) -> list[str]:
    """The one command line of CONTRIBUTING.md that has a word in it."""
    (line,) = (line for line in COMMANDS if word in shlex.split(line))
    line = line.replace("PHOTOS", "photos").replace("PHOTO", "photos/03.png")
    return [*shlex.split(line), *more]


@pytest.fixture(scope="module")
def said(folder) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of every line, run one after another in that folder."""
    run = ["--out", "runs/mine", "--data", "photos", "--size", "32", "--device", "cpu"]
    lines = {
        "stage": printed("palette.txt", "--config", "two.json"),
        "help": ["train", "--help"],
        "refused": [*WRONG, "--config", "none.json"],
        "encoder": printed("color"),
        "bundle": ["bundle.py"],
        "denoiser": printed("means"),
        "autoencoder": ["train", "--stage", "autoencoder", "--space", "pixel", *run],
        "latents": ["train", "--stage", "latents", *run],
        "method": printed("mean", "--steps", "3", "--device", "cpu"),
    }
    # `python FILE` finds modules beside the file, as an installed `rissole` does with --plugin
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), "."))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(list(lines.values())),
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    outcomes = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(lines), done.stderr
    return dict(zip(lines, outcomes, strict=True))


def succeeded(outcome: tuple[int, str, str]) -> bool:
    assert outcome[0] == 0, outcome[2]
    return True


def test_every_command_is_run_here():
    assert len(COMMANDS) == 4


def test_a_stage(folder, said):
    assert succeeded(said["stage"])
    found = (folder / "runs" / "mine" / "palette.txt").read_text().splitlines()
    wanted = [np.asarray(picture(i)).mean((0, 1)).astype(int).tolist() for i in range(2)]
    assert found == [str(color) for color in wanted]


def test_a_stage_is_treated_like_those_of_the_package(said):
    assert "palette.txt" in said["help"][1]
    code, _, err = said["refused"]
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "colors" in err


def test_an_encoder(folder, said):
    assert succeeded(said["encoder"])
    pipe = RissolePipeline.from_pretrained("cats-128")
    everything = np.stack([colors(pipe.database.image(i)) for i in range(len(pipe.database))])
    nearest = np.argsort(-everything @ colors(picture(3)))[:8]
    assert sorted(read_recipe(folder / "cat.png")["neighbors"]) == sorted(nearest.tolist())


def colors(image: Image.Image) -> np.ndarray:
    """Unit vector of the mean colors of 16 squares."""
    squares = np.asarray(image.convert("RGB"), np.float64).reshape(4, 32, 4, 32, 3).mean((1, 3))
    vector = (squares / 127.5 - 1).transpose(2, 0, 1).ravel()
    return vector / np.linalg.norm(vector)


def test_a_denoiser_with_a_prediction_type_and_a_scheduler(folder, said):
    assert succeeded(said["bundle"])
    assert succeeded(said["denoiser"])
    pipe = RissolePipeline.from_pretrained("cats-128")
    neighbors = pipe.retrieve(k=8, seed=0).ids
    mean = pipe.database.latents(neighbors).float().mean(0, keepdim=True)
    wanted = np.asarray(to_pil(pipe.codec.decode(mean))[0]).astype(int)
    painted = np.asarray(Image.open(folder / "mean.png")).astype(int)
    assert np.abs(painted - wanted).mean() < 2


def test_a_method_is_trained_on_the_same_latents(folder, said):
    for line in ("autoencoder", "latents", "method"):
        assert succeeded(said[line])
    assert load_file(folder / "runs" / "mine" / "mean" / "model.safetensors").keys() == {"strength"}
    state = read_state(folder / "runs" / "mine" / "state" / "mean")
    assert state.steps == 3
    assert state.part("model")["weights.strength"] != 1
