"""How strong the fine detail of pictures is, wherever it lies.

Nothing tells a decoder where each hair of a fur lies, so that differences of pixels and of features
are smallest where a picture is soft, and a discriminator that looks at features hardly minds. What
is compared here is therefore how much energy the finest octaves have, not their waves (spectral
regularization, arXiv 2003.01826, with octaves of a Laplacian pyramid in place of a spectrum, which
also tell where a picture is sharp).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.training.reconstruction import YCBCR

FAINT = 1e-4  # energy below which detail is not seen: that of a hundredth of full contrast
CELL = 8  # cells of an octave, per side of the places that are compared


def octaves(images: Tensor, count: int) -> list[Tensor]:
    """Energy (B, 1, H, W), (B, 1, H/2, W/2), ... of each of the finest octaves of brightness.

    The filters are short, so that waves between two octaves count for one or the other, depending
    on where their crests lie.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        count: of octaves, from fine to coarse.
    """
    channels = zip(YCBCR[0], images.float().split(1, dim=1), strict=True)
    luma = torch.stack([weight * channel for weight, channel in channels]).sum(0)
    found = []
    for _ in range(count):
        small = F.avg_pool2d(luma, 2, ceil_mode=True)
        large = F.interpolate(small, luma.shape[-2:], mode="bilinear", align_corners=False)
        found.append((luma - large).square())
        luma = small
    return found


def local_detail_distance(got: Tensor, wanted: Tensor, count: int = 2) -> Tensor:
    """Mean absolute log ratio of energies, place by place, of the same pictures (B, 3, H, W)."""
    pairs = zip(octaves(got, count), octaves(wanted, count), strict=True)
    return torch.stack([_log_ratio(*map(_places, pair)).abs().mean() for pair in pairs]).mean()


def detail_distance(got: Tensor, wanted: Tensor, count: int = 4) -> Tensor:
    """Mean squared log ratio of the energies of two sets of pictures (B, 3, H, W)."""
    pairs = zip(octaves(got, count), octaves(wanted, count), strict=True)
    return torch.stack([_log_ratio(a.mean(), b.mean()).square() for a, b in pairs]).mean()


def _places(energy: Tensor) -> Tensor:
    return F.avg_pool2d(energy, CELL, ceil_mode=True)


def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
    return ((a + FAINT) / (b + FAINT)).log()
