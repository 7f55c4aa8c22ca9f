"""Seams of pictures with known ones."""

import pytest
import torch
import torch.nn.functional as F
from synthetic import generator, smooth_pictures

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.seams import seam_ratio


def test_seam_ratio_of_a_ramp_is_one_and_of_noise_about_one():
    ramp = torch.linspace(-1, 1, 64)
    assert seam_ratio((ramp[:, None] + ramp).expand(2, 3, 64, 64)) == pytest.approx(1, abs=1e-5)
    noise = torch.randn(32, 3, 64, 64, generator=generator())
    smooth = F.avg_pool2d(noise, 5, stride=1, padding=2)[..., 2:-2, 2:-2]
    assert seam_ratio(F.interpolate(smooth, (64, 64))) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("axis", [-1, -2])
def test_seam_ratio_is_high_for_a_mosaic(axis):
    steps = torch.arange(4).repeat_interleave(16).float() * 0.2
    mosaic = (steps + 0.01 * torch.arange(64)).expand(1, 3, 64, 64).transpose(-1, axis)
    rows = 0.01 * torch.arange(64).expand(1, 3, 64, 64).transpose(-1, -3 - axis)
    # across the mosaic: 0.21 at borders against 0.01; along it 0.01 against 0.01
    assert seam_ratio(mosaic + rows) == pytest.approx(0.22 / 0.02, rel=1e-3)
    assert seam_ratio(mosaic + rows, grid=2) == pytest.approx(0.22 / 0.02, rel=1e-3)


def test_seam_ratio_ignores_the_scale_of_the_pixels():
    pictures = smooth_pictures(4, 64)
    assert seam_ratio(pictures) == pytest.approx(seam_ratio(to_float(pictures)), rel=1e-5)


@pytest.mark.parametrize("grid", [1, 16])
def test_seam_ratio_needs_borders(grid):
    with pytest.raises(RissoleError, match="no borders"):
        seam_ratio(torch.zeros(1, 3, 64, 64), grid)
