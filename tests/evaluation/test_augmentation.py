"""Random changes of photos."""

import torch
from synthetic import generator

from rissole.evaluation.augmentation import jitter_colors


def test_gray_pictures_keep_their_hue_and_others_do_not():
    gray = torch.linspace(-0.4, 0.4, 64).expand(4, 3, 1, 64).contiguous()
    changed = jitter_colors(gray, generator())
    assert changed.diff(dim=1).abs().max() < 1e-5  # hue turns about the gray axis
    assert not torch.allclose(changed, gray, atol=0.01)
    red = torch.tensor([0.5, -0.2, -0.3]).view(1, 3, 1, 1).expand(64, 3, 4, 4)
    turned = jitter_colors(red, generator())[:, :, 0, 0]
    assert turned.std(0).min() > 0.01
    assert len(turned[turned.max(1).values - turned.min(1).values < 1e-5]) in range(1, 20)
