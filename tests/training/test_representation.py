"""Training of feature networks on a few synthetic pictures."""

import pytest
import torch
from synthetic import generator, smooth_pictures

from rissole.config import RissoleError
from rissole.evaluation.network import (
    TOTAL_VARIANCE,
    FeatureNetwork,
)
from rissole.training.representation import train_features, vicreg
from rissole.training.views import DAMAGES, random_damage


@pytest.fixture(scope="module")
def network():
    return train_features(smooth_pictures(16), batch_size=8, steps=2)


def test_training_is_reproducible_and_depends_on_seed_and_architecture(network):
    again = train_features(smooth_pictures(16), batch_size=8, steps=2)
    other = train_features(smooth_pictures(16), batch_size=8, steps=1, seed=1, arch="resnet34")
    assert again.name == network.name != other.name
    assert torch.equal(again.extract(smooth_pictures(4)), network.extract(smooth_pictures(4)))


def test_features_are_scaled_to_a_known_variance(network):
    variance = network.extract(smooth_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(TOTAL_VARIANCE, rel=1e-3)


def test_training_lowers_the_loss():
    history = []
    photos = smooth_pictures(16, size=16)
    train_features(photos, batch_size=16, steps=81, on_step=lambda _, x: history.append(x))
    assert history[-1]["total"] < 0.95 * history[0]["total"]


def test_ctrl_c_keeps_a_feature_network_and_it_is_trained_on(tmp_path):
    out = tmp_path / "features.safetensors"

    def stop(step, losses):
        if step == 20:
            raise KeyboardInterrupt

    def weights(network):
        return network.trunk.layer4[1].conv2.weight.detach()

    with pytest.raises(KeyboardInterrupt):
        train_features(smooth_pictures(16), batch_size=8, steps=30, out=out, on_step=stop)
    kept = FeatureNetwork.load(out)
    more = train_features(smooth_pictures(16), batch_size=8, steps=1, out=out)
    moved = (weights(more) - weights(kept)).abs().max()
    assert 0 < moved < 1e-3 < (weights(kept) - weights(FeatureNetwork())).abs().max()
    variance = more.extract(smooth_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(TOTAL_VARIANCE, rel=1e-3)


def test_damage_of_every_kind_happens_and_intact_photos_stay_intact():
    flat = torch.full((300, 3, 32, 32), -0.5)
    flat[150:] = 0.5
    images, kinds = random_damage(flat, generator())
    assert set(kinds.tolist()) == set(range(len(DAMAGES)))
    spread = images.std(dim=(2, 3)).amax(dim=1)
    # one colour all over: warped, moved and blurred it still is, noisy it is not
    assert spread[(kinds != 5) & (kinds != 2)].max() < 1e-5
    assert spread[kinds == 5].min() > 0.02


def test_vicreg_terms():
    x = torch.randn(64, 8, generator=generator())
    same = vicreg(x, x)
    assert same["invariance"] == 0
    collapsed = vicreg(torch.zeros(64, 8), torch.zeros(64, 8))
    assert float(collapsed["variance"]) == pytest.approx(25 * 0.99)
    assert collapsed["covariance"] == 0 < same["covariance"]


def test_feature_training_refuses_too_few():
    with pytest.raises(RissoleError, match="at least 4"):
        train_features(smooth_pictures(3), steps=1)
