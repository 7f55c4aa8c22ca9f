"""The autoencoder learns, from one set of photos or several, and goes on."""

import json

import pytest
import torch
from conftest import seeded
from synthetic import generator, smooth_pictures

from rissole.config import RissoleError
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.training import trainer
from rissole.training.checkpoint import read_state
from rissole.training.hyperparameters import CodecTraining
from rissole.training.reconstruction import (
    CodecLosses,
    Encoding,
    MixedBatches,
    augmented,
    codec_training,
    feature_distance,
    new_autoencoder,
    psnr,
    train_autoencoder,
)
from rissole.training.stage import state_folder
from rissole.training.trainer import Budget, Trainer


@pytest.fixture(scope="module")
def network() -> LiteNetwork:
    """A small one with random weights: what training does with it is all the same."""
    return seeded(LiteNetwork("lite0", blocks=3), 0)


@pytest.fixture(scope="module")
def sets() -> list[torch.Tensor]:
    return [smooth_pictures(24, seed=1), smooth_pictures(8, seed=2)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def test_an_autoencoder_is_a_diffusers_one_that_resumes(sets, network, tmp_path):
    out, settings = tmp_path / "autoencoder", CodecTraining(batch_size=4)
    common = {"network": network, "settings": settings, "device": "cpu"}
    for steps in (3, 2):
        result = train_autoencoder(sets, out, Budget(steps=steps), **common)
    assert read_state(state_folder(out)).steps == 5
    assert result["psnr_held_out_db"] > 5
    assert 0.2 < 1 / result["latent_scale"] < 5  # latents start with unit variance
    codec = Codec.load(out)
    assert codec.scale == result["latent_scale"]
    latents = codec.encode(sets[0][:2].float() / 127.5 - 1)
    assert latents.shape == (2, 4, 8, 8)
    assert codec.decode(latents).shape == (2, 3, 32, 32)
    assert json.loads((out / "training.json").read_text())["channel_std"]


def test_an_autoencoder_of_another_shape_is_trained_on(sets, network, tmp_path):
    """Those that were trained before have decoders with a block at full size."""
    out, steps = tmp_path / "autoencoder", Budget(steps=1)
    old = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 1)), 0)
    began = Trainer({"model": codec_training(old, 1e-4)}, generator(), state_folder(out))
    began.fit(
        [lambda index: {"loss": old.encoder.layers[0].weight.sum().mul(0.0).detach()}],
        MixedBatches([4], 2, generator()), steps, lambda history: Codec(old).save(out),
    )  # fmt: skip
    settings = CodecTraining(batch_size=4)
    train_autoencoder(sets[0], out, steps, network=network, settings=settings, device="cpu")
    assert read_state(state_folder(out)).steps == 2
    assert Codec.load(out).model.config["num_decoder_blocks"] == [1, 1, 1]


def test_training_needs_no_network_when_features_do_not_count(sets, tmp_path):
    settings = CodecTraining(batch_size=4, perceptual=0.0)
    out = tmp_path / "autoencoder"
    result = train_autoencoder(sets[0], out, Budget(steps=1), settings=settings, device="cpu")
    assert result["psnr_held_out_db"] > 5


def test_both_differences_become_smaller(sets, network):
    model = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0)), 0)
    losses = Encoding(model, network, CodecTraining(latent_noise=0.0))
    photos, optimizer = sets[0][:4].float() / 127.5 - 1, torch.optim.Adam(model.parameters(), 3e-3)
    reports = []
    for _ in range(60):
        optimizer.zero_grad()
        reports.append(losses(photos, generator()))
        optimizer.step()
    assert reports[0].keys() == {"fidelity", "features", "variance"}
    for name in ("fidelity", "features"):
        assert reports[-1][name] < 0.7 * reports[0][name], name
    assert abs(reports[-1]["variance"] - 1) < abs(reports[0]["variance"] - 1)


def test_channels_of_a_new_autoencoder_have_unit_variance(sets):
    images = sets[0][:16].float() / 127.5 - 1
    with torch.no_grad():
        latents = new_autoencoder(0, images).encoder(images)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)


def test_what_is_felt_of_features_is_a_share_of_the_rest(network):
    model = trainer.seeded(lambda: tiny_autoencoder(8, 4, (1, 1, 1), (1, 1, 0)), 0)
    losses = CodecLosses(model, network, CodecTraining())
    output = losses.decode(noise(2, 4, 8, 8), generator())
    base, other = noise(*output.shape), 1000 * noise(*output.shape, seed=1)
    both = losses.balanced(output, base, other, 0.5)
    felt = losses.felt(output, both - base) / losses.felt(output, base)
    assert felt.item() == pytest.approx(0.5, rel=1e-3)


def test_features_of_the_same_picture_are_no_distance_apart(network):
    x = noise(2, 3, 32, 32).clamp(-1, 1)
    maps = network.maps(x)
    assert feature_distance(maps, maps) == 0
    assert feature_distance(maps, network.maps(x.flip(-1))) > 0.01


def test_a_batch_holds_as_many_photos_of_each_set():
    batches = MixedBatches([24, 7], 8, generator())
    seen = [next(batches) for _ in range(6)]
    assert all(((b < 24).sum(), (b >= 24).sum()) == (4, 4) for b in seen)
    drawn = torch.cat(seen).sort().values
    assert torch.equal(drawn[drawn < 24], torch.arange(24))  # an epoch of the one
    assert drawn[drawn >= 24].bincount()[24:].tolist() == pytest.approx([3.5] * 7, abs=0.5)
    with pytest.raises(RissoleError, match="batch_size 1 is too small for 2 sets"):
        MixedBatches([24, 7], 1, generator())


def test_photos_are_moved_by_whole_pixels(sets):
    moved = augmented(sets[0], generator(), recolored=0.0)
    for photo, one in zip(sets[0], moved, strict=True):
        assert torch.isin(one.unique(), photo.unique().float() / 127.5 - 1).all()
    assert not torch.equal(augmented(sets[0], generator(), recolored=1.0), moved)
    assert len({one.sum().item() for one in augmented(sets[0][:1].expand(8, -1, -1, -1),
                                                      generator(), 0.0)}) > 4  # fmt: skip


def test_psnr_of_a_known_difference():
    photo = torch.zeros(1, 3, 4, 4)
    assert psnr(photo + 0.2, photo).item() == pytest.approx(20.0, abs=1e-3)
