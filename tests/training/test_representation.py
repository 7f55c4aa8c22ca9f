"""Training of feature networks on a few synthetic pictures."""

import json

import pytest
import torch
from synthetic import generator, smooth_pictures, trained_network

from rissole.config import RissoleError
from rissole.evaluation.network import (
    TOTAL_VARIANCE,
    FeatureNetwork,
)
from rissole.training.hyperparameters import FeatureTraining
from rissole.training.representation import train_features
from rissole.training.trainer import Budget
from rissole.training.vicreg import vicreg
from rissole.training.views import DAMAGES, random_damage


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_network(tmp_path_factory.mktemp("networks") / "features.safetensors")


def test_training_is_reproducible_and_depends_on_seed_and_architecture(network, tmp_path):
    again = trained_network(tmp_path / "again.safetensors")
    other = trained_network(tmp_path / "other.safetensors", steps=1, seed=1, arch="resnet34")
    assert again.name == network.name != other.name
    assert torch.equal(again.extract(smooth_pictures(4)), network.extract(smooth_pictures(4)))


def test_features_are_scaled_to_a_known_variance(network):
    variance = network.extract(smooth_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(TOTAL_VARIANCE, rel=1e-3)


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path):
    settings = FeatureTraining(batch_size=16)
    photos, out = smooth_pictures(16, size=16), tmp_path / "features.safetensors"
    train_features(photos, out, Budget(steps=100), settings=settings, device="cpu")
    first, *_, last = json.loads((tmp_path / "features.json").read_text())["history"]
    assert last["total"] < 0.95 * first["total"]


def test_a_feature_network_is_trained_on(tmp_path):
    def weights(network):
        return network.trunk.layer4[1].conv2.weight.detach()

    out, settings = tmp_path / "features.safetensors", FeatureTraining(batch_size=8)
    train_features(smooth_pictures(16), out, Budget(steps=12), settings=settings, device="cpu")
    kept = FeatureNetwork.open(out)
    more = trained_network(out, steps=1)
    moved = (weights(more) - weights(kept)).abs().max()
    assert 0 < moved < 1e-4 < (weights(kept) - weights(FeatureNetwork())).abs().max()
    variance = more.extract(smooth_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(TOTAL_VARIANCE, rel=1e-3)


def test_damage_of_every_kind_happens_and_intact_photos_stay_intact():
    flat = torch.full((300, 3, 32, 32), -0.5)
    flat[150:] = 0.5
    images, kinds = random_damage(flat, generator())
    assert set(kinds.tolist()) == set(range(len(DAMAGES)))
    spread = images.std(dim=(2, 3)).amax(dim=1)
    # one color all over: warped, moved and blurred it still is, noisy it is not
    assert spread[(kinds != 5) & (kinds != 2)].max() < 1e-5
    assert spread[kinds == 5].min() > 0.02


def test_vicreg_terms():
    x = torch.randn(64, 8, generator=generator())
    same = vicreg(x, x)
    assert same["invariance"] == 0
    collapsed = vicreg(torch.zeros(64, 8), torch.zeros(64, 8))
    assert float(collapsed["variance"]) == pytest.approx(25 * 0.99)
    assert collapsed["covariance"] == 0 < same["covariance"]


def test_feature_training_refuses_too_few(tmp_path):
    with pytest.raises(RissoleError, match="at least 4"):
        train_features(smooth_pictures(3), tmp_path / "features.safetensors", Budget(steps=1))
