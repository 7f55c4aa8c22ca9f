"""What CONTRIBUTING.md adds from outside the package, run as printed there."""

from __future__ import annotations

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
from rissole.cli import main
from rissole.data.images import read_recipe, to_pil
from rissole.training.checkpoint import read_state

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MODULES = re.findall(r"<!-- runs: (\w+\.py) -->\n```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^rissole (--plugin mine .*)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where somebody works: their modules, and a few photos."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, code in MODULES:
        with (folder / name).open("a") as file:
            file.write(code + "\n\n")
    (folder / "photos").mkdir()
    for number in range(24):
        picture(number).save(folder / "photos" / f"{number:02}.png")
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs this Python in a folder, with the package found as an installed one is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, *arguments)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def as_printed(folder: Path, word: str, *more: str) -> str:
    """Runs the one command of CONTRIBUTING.md that has a word in it; returns what it prints."""
    (line,) = (line for line in COMMANDS if word in shlex.split(line))
    line = line.replace("PHOTOS", "photos").replace("PHOTO", "photos/03.png")
    done = python(folder, "-m", "rissole", *shlex.split(line), *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_is_run_here():
    assert len(COMMANDS) == 4


def test_a_stage(folder):
    as_printed(folder, "palette.txt", "--config", write(folder, '{"colors": 2}'))
    found = (folder / "runs" / "mine" / "palette.txt").read_text().splitlines()
    wanted = [np.asarray(picture(i)).mean((0, 1)).astype(int).tolist() for i in range(2)]
    assert found == [str(color) for color in wanted]


def test_a_stage_is_treated_like_those_of_the_package(folder):
    train = ("-m", "rissole", "--plugin", "mine", "train", "--data", "photos", "--out", "refused")
    shown = python(folder, *train, "--help").stdout
    assert "palette.txt" in shown
    wrong = write(folder, '{"colors": 0}')
    done = python(folder, *train, "--stage", "palette.txt", "--config", wrong)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "colors" in done.stderr


def write(folder: Path, text: str) -> str:
    (folder / "settings.json").write_text(text)
    return "settings.json"


def test_an_encoder(folder):
    as_printed(folder, "color")
    pipe = RissolePipeline.from_pretrained("cats-128")
    everything = np.stack([colors(pipe.database.image(i)) for i in range(len(pipe.database))])
    nearest = np.argsort(-everything @ colors(picture(3)))[:8]
    assert sorted(read_recipe(folder / "cat.png")["neighbors"]) == sorted(nearest.tolist())


def colors(image: Image.Image) -> np.ndarray:
    """Unit vector of the mean colors of 16 squares."""
    squares = np.asarray(image.convert("RGB"), np.float64).reshape(4, 32, 4, 32, 3).mean((1, 3))
    vector = (squares / 127.5 - 1).transpose(2, 0, 1).ravel()
    return vector / np.linalg.norm(vector)


def test_a_denoiser_with_a_prediction_type_and_a_scheduler(folder):
    made = python(folder, "bundle.py")
    assert made.returncode == 0, made.stderr
    as_printed(folder, "means")
    pipe = RissolePipeline.from_pretrained("cats-128")
    neighbors = pipe.retrieve(k=8, seed=0).ids
    mean = pipe.database.latents(neighbors).float().mean(0, keepdim=True)
    wanted = np.asarray(to_pil(pipe.codec.decode(mean))[0]).astype(int)
    painted = np.asarray(Image.open(folder / "mean.png")).astype(int)
    assert np.abs(painted - wanted).mean() < 2


def test_a_method_is_trained_on_the_same_latents(folder):
    run = ["--out", str(folder / "runs" / "mine"), "--data", str(folder / "photos")]
    options = ["--size", "32", "--device", "cpu"]
    pixels = ["--stage", "autoencoder", "--space", "pixel"]
    assert main(["train", *pixels, *run, *options]) == 0
    assert main(["train", "--stage", "latents", *run, *options]) == 0
    as_printed(folder, "mean", "--steps", "3", "--device", "cpu")
    assert load_file(folder / "runs" / "mine" / "mean" / "model.safetensors").keys() == {"strength"}
    state = read_state(folder / "runs" / "mine" / "state" / "mean")
    assert state.steps == 3
    assert state.part("model")["weights.strength"] != 1
