"""What a user brings in a module of their own."""

import json

import pytest
from PIL import Image

from rissole import cli
from rissole.training.checkpoint import read_state
from rissole.training.method import METHODS
from rissole.training.stage import STAGES

COUNTING = """
from dataclasses import dataclass
from rissole.training.stage import STAGES, Positive, Stage

@dataclass(frozen=True)
class CountSettings:
    times: Positive = 2

@STAGES.register
class Count(Stage):
    name = "count"
    help = "counts the photos."
    settings = CountSettings
    uses = ("latents",)

    def state(self, run, settings):
        return None

    def run(self, job, settings):
        count = settings.times * len(job.photos.photos)
        self.target(job.run, settings).write_text(str(count))
        return {"photos": count}
"""
SMALLER = """
from rissole.training.denoising import METHODS, Rissole

@METHODS.register
class Smaller(Rissole):
    name = "smaller"
    changes = {
        "channels": (16, 32), "canvas_channels": (16, 32), "canvas_layers": 2, "block_layers": 1,
        "head_channels": 16,
    }
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two dozen photos in `photos`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RISSOLE_PLUGINS", "")  # what a command sets goes with the test
    (tmp_path / "photos").mkdir()
    for number in range(24):
        picture = Image.effect_noise((32, 32), 60 + number).convert("RGB")
        picture.save(tmp_path / "photos" / f"{number:02}.png")
    yield tmp_path
    STAGES._entries.pop("count", None)
    METHODS._entries.pop("smaller", None)


def test_a_stage_of_ones_own_is_listed_checked_and_run(photos, capsys):
    (photos / "counting.py").write_text(COUNTING)
    (photos / "wrong.json").write_text('{"times": 0}')
    (photos / "three.json").write_text('{"times": 3}')
    train = ["--plugin", "counting", "train", "--stage", "count", "--data", "photos"]
    train += ["--out", "run", "--device", "cpu"]
    assert cli.main(["--plugin", "counting", "train", "--help"]) == 0
    assert "count: counts the photos." in " ".join(capsys.readouterr().out.split())
    assert cli.main([*train, "--config", "wrong.json"]) == 2
    assert "times should be greater than or equal to 1, not 0" in capsys.readouterr().err
    assert cli.main([*train, "--config", "three.json"]) == 0
    assert (photos / "run" / "count").read_text() == "72"
    assert cli.main(train) == 2
    assert "add --resume" in capsys.readouterr().err
    assert cli.main([*train, "--space", "pixel"]) == 2
    assert "--space is no option of the stage count" in capsys.readouterr().err


def test_a_denoiser_of_ones_own_is_trained(photos, capsys):
    (photos / "smaller.py").write_text(SMALLER)
    (photos / "few.json").write_text(json.dumps({"batch_size": 2, "windows": 2}))
    common = ["--data", "photos", "--out", "run", "--size", "32", "--device", "cpu", "--steps", "1"]
    for stage, *more in (
        ("autoencoder", "--space", "pixel"),
        ("latents",),
        ("denoiser", "--preset", "smaller", "--config", "few.json"),
    ):
        arguments = ["--plugin", "smaller", "train", "--stage", stage, *common, *more]
        assert cli.main(arguments) == 0, capsys.readouterr().err
    assert (photos / "run" / "smaller" / "model.safetensors").exists()
    assert read_state(photos / "run" / "state" / "smaller").steps == 1


@pytest.mark.parametrize("name", ["nowhere", "nowhere.deeper.still", "json.nowhere"])
def test_a_plugin_that_is_not_there_is_one_line(photos, capsys, name):
    assert cli.main(["--plugin", name, "train", "--stage", "latents"]) == 2
    assert capsys.readouterr().err == f"error: no module {name!r} here, and none is installed\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def x(:", "SyntaxError: invalid syntax (broken_plugin.py, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero (broken_plugin.py, line 2)"),
        ("raise AssertionError", "AssertionError: (broken_plugin.py, line 1)"),
        (
            "import nowhere_at_all",
            "ModuleNotFoundError: No module named 'nowhere_at_all' (broken_plugin.py, line 1)",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_one_line(photos, capsys, code, told):
    (photos / "broken_plugin.py").write_text(code)
    assert cli.main(["--plugin", "broken_plugin", "train", "--stage", "latents"]) == 2
    said = f"error: the module 'broken_plugin' does not load: {told}\n"
    assert capsys.readouterr().err == said
