"""A denoiser learns, goes on, and is kept."""

import json

from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.training.checkpoint import read_state
from rissole.training.denoising import train_denoiser
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.neighborhoods import make_latents
from rissole.training.trainer import Budget

SMALL = {
    "channels": (16, 32), "canvas_channels": (16, 32), "canvas_layers": 2, "block_layers": 1,
    "head_channels": 16,
}  # fmt: skip


def test_denoiser_learns_and_resumes(run):
    from safetensors.torch import load_file

    data = load_file(run / "latents" / "latents.safetensors")
    settings = DenoiserTraining(batch_size=8, windows=4, neighbors=3, peak_rate=3e-3)
    common = {"model": SMALL, "settings": settings, "device": "cpu"}
    out = run / "denoiser"
    before = train_denoiser(data, out, Budget(steps=1), schedule=(0, 0.01), **common)
    after = train_denoiser(data, out, Budget(steps=60), schedule=(0.01, 1), **common)
    assert after["train_loss_4x4"] < 0.95 * before["train_loss_4x4"]
    assert Denoiser.load(out).config == DenoiserConfig(**SMALL)
    state = read_state(run / "state" / "denoiser")
    assert state.steps == 61
    assert state.part("model")["average.steps"] == 16  # the average moves every fourth step
    assert json.loads((out / "minutes.json").read_text())["minutes"] == state.minutes > 0


def test_a_denoiser_is_trained_to_be_told(run, photos, tmp_path):
    settings = DenoiserTraining(batch_size=4, own=0.5, told=0.6, blinkered=0.2, all_shown=0.5)
    data = make_latents(run / "autoencoder", photos, tmp_path, "cpu", own_blocks=True)
    assert data["block_neighbors"].shape[0] == 16
    out = tmp_path / "denoiser"
    train_denoiser(data, out, Budget(steps=3), model=SMALL, settings=settings, device="cpu")
    assert Denoiser.load(out).config == DenoiserConfig(**SMALL, strength=True)
