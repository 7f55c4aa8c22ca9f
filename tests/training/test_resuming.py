"""Every stage that learns: cut into days, or killed, it comes to the same weights."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, picture, seeded
from loopback_hub import ROOT
from small_training import learn
from synthetic import smooth_pictures

from rissole.cli import main
from rissole.evaluation.lite import LiteNetwork
from rissole.models.denoiser import Denoiser
from rissole.storage.manifest import verify
from rissole.training.budget import Interval
from rissole.training.checkpoint import read_state
from rissole.training.denoising import train_denoiser
from rissole.training.flow_map import train_flow_map
from rissole.training.hyperparameters import (
    CodecTraining,
    DecoderTraining,
    DenoiserTraining,
    EncoderTraining,
    FeatureTraining,
    FewStepsTraining,
)
from rissole.training.neighbor_learning import train_encoder
from rissole.training.neighborhoods import read_latents
from rissole.training.reconstruction import train_autoencoder
from rissole.training.representation import train_features
from rissole.training.sharpening import train_decoder
from rissole.training.stage import checkpoints_in, state_folder
from rissole.training.trainer import Budget

STEPS = 3
SMALL = {
    "channels": (16, 32), "canvas_channels": (16, 32), "canvas_layers": 2, "block_layers": 1,
    "head_channels": 16, "dropout": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def latents(run) -> dict[str, torch.Tensor]:
    return read_latents(run)


@pytest.fixture(scope="module")
def network() -> LiteNetwork:
    return seeded(LiteNetwork("lite0", blocks=3), 0)


@pytest.fixture
def stages(latents, network):
    """How each stage is trained: into a folder, on a budget."""
    photos, cpu = smooth_pictures(24), {"device": "cpu"}
    teacher = seeded(Denoiser(TINY), 0)

    def autoencoder(out: Path, budget: Budget) -> Path:
        settings = CodecTraining(batch_size=2)
        train_autoencoder(photos, out / "autoencoder", budget, network=network, settings=settings,
                          **cpu)  # fmt: skip
        return out / "autoencoder"

    def decoder(out: Path, budget: Budget) -> Path:
        if not (out / "autoencoder").exists():
            autoencoder(out, Budget(steps=1))
        train_decoder(photos, out / "autoencoder", budget, network=network,
                      settings=DecoderTraining(batch_size=4), **cpu)  # fmt: skip
        return out / "decoder"

    def features(out: Path, budget: Budget) -> Path:
        settings = FeatureTraining(batch_size=4)
        train_features(photos, out / "features.safetensors", budget, settings=settings, **cpu)
        return out / "features.safetensors"

    def encoder(out: Path, budget: Budget) -> Path:
        settings = EncoderTraining(batch_size=4, width=8)
        train_encoder(photos, out / "encoder", budget, settings=settings, **cpu)
        return out / "encoder"

    def denoiser(out: Path, budget: Budget) -> Path:
        settings = DenoiserTraining(batch_size=2, windows=2, grids=(0.5, 0.2, 0.3))
        train_denoiser(latents, out / "denoiser", budget, model=SMALL, settings=settings, **cpu)
        return out / "denoiser"

    def few_steps(out: Path, budget: Budget) -> Path:
        settings = FewStepsTraining(
            batch_size=2, neighbors=2, kinds=(0.4, 0.2, 0.2, 0.2), own=0.0, told=0.0
        )
        train_flow_map(teacher, latents, out / "few-steps", budget, settings=settings, **cpu)
        return out / "few-steps"

    return {
        "autoencoder": autoencoder, "decoder": decoder, "features": features, "encoder": encoder,
        "denoiser": denoiser, "few-steps": few_steps,
    }  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [
        *("autoencoder", "encoder", "denoiser", "few-steps"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("decoder", "features")),
    ],
)
def test_a_stage_cut_into_days_comes_to_the_same_weights(stage, stages, tmp_path):
    out = stages[stage](tmp_path / "whole", Budget(steps=STEPS))
    for _ in range(STEPS):
        other = stages[stage](tmp_path / "days", Budget(minutes=1e-9, steps=STEPS))
    one, two = read_state(state_folder(out)), read_state(state_folder(other))
    assert one.steps == two.steps == STEPS
    for part, tensors in one.parts.items():
        for name, value in tensors.items():
            assert torch.equal(value, two.part(part)[name]), f"{part} {name}"
    kept = [p for p in (tmp_path / "whole").rglob("*.safetensors") if "state" not in p.parts]
    assert kept
    for path in kept:
        again = tmp_path / "days" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == again.read_bytes(), path.name


@pytest.fixture
def command(tmp_path, monkeypatch) -> list[str]:
    """A line that trains a small autoencoder for 3 steps in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(16):
        picture(number).resize((32, 32)).save(f"photos/{number}.png")
    Path("small.json").write_text('{"batch_size": 4, "perceptual": 0}')
    options = "--data photos --size 64 --steps 3 --save-steps 1 --device cpu --config small.json"
    return ["train", "--stage", "autoencoder", *options.split()]


def wait_for(condition, alive) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert alive()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_command_goes_on_to_the_same_weights(command, tmp_path, capsys):
    state, line = tmp_path / "killed" / "state" / "autoencoder", [*command, "--out", "killed"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rissole", *line], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: checkpoints_in(state), lambda: process.poll() is None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "autoencoder").exists()
    assert main(line) == 2  # a night's work is not begun anew by mistake
    assert "an unfinished training of killed/autoencoder exists: add --resume" in (
        capsys.readouterr().err
    )
    assert main([*line, "--resume"]) == 0
    assert "resumed autoencoder at step" in capsys.readouterr().err
    assert main([*command, "--out", "whole"]) == 0
    one, two = (tmp_path / name / "autoencoder" for name in ("killed", "whole"))
    weights = "diffusion_pytorch_model.safetensors"
    assert (one / weights).read_bytes() == (two / weights).read_bytes()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("my cats", "--out 'my cats': the folder's name is the bundle's"),
        ("photos/0.png/run", "cannot write into photos/0.png/run"),
    ],
)
def test_what_the_end_needs_is_checked_before_photos_are_read(out, said, command, capsys):
    Path("photos/1.png").write_bytes(b"no picture")  # reading it would be told
    assert main([*command, "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")


def test_nothing_to_resume_is_told(command, capsys):
    assert main([*command, "--out", "run", "--steps", "1", "--resume"]) == 0
    said = capsys.readouterr().err
    assert "note: nothing to resume in run/state/autoencoder: starting anew" in said


def names(state: Path) -> set[str]:
    return {path.name for path in checkpoints_in(state)}


@pytest.mark.slow
def test_kills_at_any_moment_leave_whole_checkpoints(tmp_path):
    """`RISSOLE_KILLS` says how many; each process goes on from what the one before left."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rissole.training.trainer"])  # torch is loaded once
    state, dice, before, seen = tmp_path / "state", random.Random(), 0, set()
    kills = int(os.environ.get("RISSOLE_KILLS", "100"))
    arguments = {"saved": Interval(steps=1), "width": 60_000}  # some 4 MB, mostly being written
    for _ in range(kills):
        process = context.Process(target=learn, args=(state, 10**6), kwargs=arguments)
        process.start()
        wait_for(lambda: not names(state) <= seen, process.is_alive)
        time.sleep(dice.uniform(0, 0.2))
        process.kill()
        process.join()
        seen.update(names(state))
        found = checkpoints_in(state)
        assert 1 <= len(found) <= 3
        for folder in found:
            verify(folder)
        assert (now := read_state(state).steps) > before
        before = now
    assert len(list(state.iterdir())) <= 4  # and at most what one kill leaves
