"""Random changes of photos."""

import torch
from synthetic import generator

from rissole.evaluation.augmentation import enlarged, jitter_colors


def test_gray_pictures_keep_their_hue_and_others_do_not():
    gray = torch.linspace(-0.4, 0.4, 64).expand(4, 3, 1, 64).contiguous()
    changed = jitter_colors(gray, generator())
    assert changed.diff(dim=1).abs().max() < 1e-5  # hue turns about the gray axis
    assert not torch.allclose(changed, gray, atol=0.01)
    red = torch.tensor([0.5, -0.2, -0.3]).view(1, 3, 1, 1).expand(64, 3, 4, 4)
    turned = jitter_colors(red, generator())[:, :, 0, 0]
    assert turned.std(0).min() > 0.01
    assert len(turned[turned.max(1).values - turned.min(1).values < 1e-5]) in range(1, 20)


def test_enlarged_pictures_are_a_square_of_what_they_were():
    side, count = 32, 40
    slope = torch.linspace(0, 1, side).expand(count, 1, side, side)
    batch = torch.cat([slope, slope.mT], dim=1)
    assert torch.allclose(enlarged(batch, 0, generator()), batch, atol=1e-5)
    made = enlarged(batch, 1, generator())
    assert made.shape == batch.shape and made.dtype == torch.float32
    rise = made[:, 0, 5, 20] - made[:, 0, 5, 10], made[:, 1, 20, 5] - made[:, 1, 10, 5]
    assert torch.allclose(torch.stack(rise), torch.tensor(10 / 2 / (side - 1)), atol=1e-4)
    # from all over the picture, and never from beyond it
    corner = made[:, :, 0, 0]
    assert corner.min() >= 0 and corner.min() < 0.1 and 0.4 < corner.max() <= 0.52
    some = enlarged(batch, 0.5, generator())
    assert 5 < sum(torch.allclose(a, b, atol=1e-5) for a, b in zip(some, batch, strict=True)) < 35
