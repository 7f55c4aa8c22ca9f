"""A denoiser learns, goes on, and is kept."""

import json
import math

import pytest
import torch

from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.training.checkpoint import read_state
from rissole.training.denoising import train_denoiser
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.neighborhoods import make_latents
from rissole.training.situations import make_sampler
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
    after = train_denoiser(data, out, Budget(steps=28), schedule=(0.01, 1), **common)
    assert after["train_loss_4x4"] < 0.95 * before["train_loss_4x4"]
    assert Denoiser.load(out).config == DenoiserConfig(**SMALL)
    state = read_state(run / "state" / "denoiser")
    assert state.steps == 29
    assert state.part("model")["average.0.steps"] == 8  # the average moves every fourth step
    assert json.loads((out / "minutes.json").read_text())["minutes"] == state.minutes > 0


@pytest.fixture(scope="module")
def much(run, photos, tmp_path_factory):
    """Latents with neighbors of blocks, in three ways."""
    folder = tmp_path_factory.mktemp("latents")
    return make_latents(run / "autoencoder", photos, folder, "cpu", own_blocks=True, ways=3)


def test_a_denoiser_is_trained_to_be_told(much, tmp_path):
    settings = DenoiserTraining(batch_size=4, own=0.5, told=0.6, blinkered=0.2, all_shown=0.5)
    assert much["block_neighbors"].shape[0] == 16
    out = tmp_path / "denoiser"
    train_denoiser(much, out, Budget(steps=3), model=SMALL, settings=settings, device="cpu")
    assert Denoiser.load(out).config == DenoiserConfig(**SMALL, strength=True, augmentation=8)


def test_a_trained_denoiser_goes_on_from_its_weights_and_learns_to_be_told_more(much, tmp_path):
    first = Denoiser(DenoiserConfig(**SMALL))
    common = {"budget": Budget(steps=1), "start": first, "device": "cpu"}
    settings = DenoiserTraining(batch_size=4, own=0.5, told=0.6, peak_rate=0.0)
    train_denoiser(much, tmp_path / "still", settings=settings, **common)
    still = Denoiser.load(tmp_path / "still")
    assert still.config == DenoiserConfig(**SMALL, strength=True, augmentation=8)
    found = still.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(found[name], value.half().float()), name
    assert not any(found[f"asked.{what}.weight"].any() for what in ("strength", "augmentation"))
    settings = DenoiserTraining(batch_size=4, peak_rate=1e-2, averages=(0.0,))
    train_denoiser(much, tmp_path / "moved", settings=settings, **common)
    assert not torch.equal(Denoiser.load(tmp_path / "moved").level[0].weight, first.level[0].weight)


@pytest.mark.parametrize("other", [{"latent_channels": 8}, {"latent_size": 48}], ids=str)
def test_a_denoiser_that_cannot_go_on_is_refused(much, tmp_path, other):
    start = Denoiser(DenoiserConfig(**SMALL, **other))
    with pytest.raises(RissoleError, match="to start as"):
        train_denoiser(much, tmp_path / "a", Budget(steps=1), start=start, device="cpu")
    assert not (tmp_path / "a").exists()


def test_pictures_and_their_neighbors_are_changed_alike_and_that_is_told(much):
    settings = DenoiserTraining(batch_size=8, neighbors=2, plain=0.5)
    draw = torch.Generator().manual_seed(0)
    index = torch.arange(8)
    batch = make_sampler(much, "", settings, draw, "cpu").batch(index, 4)
    every = torch.cat([much["latents"][None], much["changed"]]).float()
    way = [much["ways"].tolist().index(told) for told in batch.aims.augmentation.tolist()]
    assert 0 in way and len(set(way)) > 1
    assert not much["ways"][0].any()  # what is asked for when a picture is painted
    for one in index.tolist():
        assert torch.equal(batch.clean[one], every[way[one], one])
        for near in batch.neighbors[one]:
            assert (every[way[one]] == near).flatten(1).all(1).any()
    held = make_sampler(much, "held_", settings, draw, "cpu")
    assert held.batch(torch.arange(2), 4).aims.augmentation is None


def test_all_averages_are_kept_for_one_to_be_chosen(much, tmp_path):
    settings = DenoiserTraining(batch_size=4, averages=(0.9, 0.99), snapshots=2, plain=1.0)
    common = {"model": SMALL, "settings": settings, "device": "cpu"}
    train_denoiser(much, tmp_path / "whole", Budget(steps=2), **common)
    for minutes in (1e-9, math.inf):  # a step on one day, and one on the next
        train_denoiser(much, tmp_path / "resumed", Budget(minutes, 2), **common)
    whole, resumed = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "snapshots").iterdir()}
        for name in ("whole", "resumed")
    )
    assert whole == resumed
    names = [f"step-{step:08}-{decay}.safetensors" for step in (1, 2) for decay in (0.9, 0.99)]
    assert sorted(whole) == names
    network = Denoiser.read(tmp_path / "whole" / "snapshots" / names[2])
    last = Denoiser.load(tmp_path / "whole").state_dict()
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
