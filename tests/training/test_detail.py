"""How strong fine detail is."""

import pytest
import torch
import torch.nn.functional as F
from synthetic import generator

from rissole.training.detail import detail_distance, local_detail_distance, octaves


def waves(period: int, size: int = 64) -> torch.Tensor:
    """Gray stripes (1, 3, S, S) of so many pixels, of full contrast."""
    row = torch.arange(size) // (period // 2) % 2 * 2.0 - 1
    return row.expand(1, 3, size, size)


def noise(count: int = 8, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=generator()) * 2 - 1


def soft(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(images, 3, stride=1, padding=1)


def test_each_octave_sees_its_own_waves():
    fine, middle, coarse = ([e.mean().item() for e in octaves(waves(p), 3)] for p in (2, 4, 8))
    assert fine == pytest.approx([1, 0, 0], abs=0.01)
    assert middle[1] > 2 * max(middle[0], middle[2])
    assert coarse[2] > 2 * max(coarse[0], coarse[1])


@pytest.mark.parametrize("size", [32, 20, 9])
def test_pictures_of_any_size_have_octaves(size):
    sides = [e.shape[-1] for e in octaves(noise(2, size), 4)]
    assert sides == [size, -(-size // 2), -(-size // 4), -(-size // 8)]


def test_energies_are_compared_and_not_waves():
    images = noise()
    assert detail_distance(images, images) == 0
    assert (
        detail_distance(noise().roll(5, -1), images) < 1e-3 < detail_distance(soft(images), images)
    )


@pytest.mark.parametrize("distance", [detail_distance, local_detail_distance])
def test_following_the_gradient_makes_soft_pictures_as_sharp(distance):
    wanted, images = noise(), soft(noise()).requires_grad_()
    before = distance(images, wanted)
    optimizer = torch.optim.Adam([images], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        distance(images, wanted).backward()
        optimizer.step()
    assert distance(images, wanted) < 0.1 * before
    energies = [octaves(x, 1)[0].mean().item() for x in (images, wanted)]
    assert energies[0] == pytest.approx(energies[1], rel=0.2)


def test_only_its_place_tells_detail_that_lies_elsewhere():
    left, right = torch.zeros(4, 3, 64, 64), torch.zeros(4, 3, 64, 64)
    left[..., :32], right[..., 32:] = noise(4)[..., :32], noise(4)[..., :32]
    assert detail_distance(left, right) < 1e-3
    assert local_detail_distance(left, right) > 1
