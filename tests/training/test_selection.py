"""Which painted pictures are kept."""

import numpy as np
import pytest
import torch
from conftest import picture

from rissole.config import RissoleError
from rissole.data.photos import split
from rissole.evaluation.network import FeatureConfig, FeatureNetwork
from rissole.training.selection import choose, realism, select, too_near


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


def test_realism_is_high_inside_and_low_far_away():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(200, 4, generator=draw)
    inside, outside = torch.zeros(1, 4), torch.full((1, 4), 9.0)
    score = realism(torch.cat([inside, outside]), real)
    assert score[0] > 1 > score[1]
    assert realism(inside, real[:3]).isfinite().all()  # a class of three photos


def test_choice_is_good_varied_and_allowed():
    features = torch.arange(10.0)[:, None].repeat_interleave(2, 0)  # ten pairs of twins
    score = torch.arange(20.0)
    allowed = torch.ones(20, dtype=torch.bool)
    allowed[19] = False
    chosen = choose(score, features, allowed, 7).tolist()
    assert chosen == [18, 17, 15, 13, 11, 9, 7]  # the better twin of each pair, the best first
    twins = choose(score, torch.zeros(20, 1), torch.ones_like(allowed), 20)  # all alike, all wanted
    assert len(twins) == 20
    with pytest.raises(RissoleError, match="only 19"):
        choose(score, features, allowed, 20)


def test_near_copies_are_flagged_mirrored_ones_too(photos):
    network = FeatureNetwork()
    train, held = split(photos)
    fresh = torch.stack(
        [torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(100, 104)]
    )
    images = torch.cat([train[:1], train[1:2].flip(-1), fresh])
    flags = too_near(images, network.extract(images), train, held, network)
    assert flags[:2].all()
    assert not flags[2:].all()


def test_another_network_may_tell_what_looks_real(photos):
    train, _ = split(photos)
    images = torch.cat([photos[:8].flip(-2), torch.full((8, 3, 128, 128), 90, dtype=torch.uint8)])
    network, judge = (FeatureNetwork(FeatureConfig(seed=seed)) for seed in (0, 1))
    for seen in (network, judge):
        kept, figures = select(images, photos, network, 4, judge=seen if seen is judge else None)
        score = realism(seen.extract(images), seen.extract(train))
        assert figures["judge"] == seen.name
        assert figures["mean_realism_of_candidates"] == pytest.approx(score.mean().item())
        assert figures["mean_realism_of_gallery"] == pytest.approx(score[kept].mean().item())
