"""Changes of photos before they are encoded, which the denoiser is told, so that it paints none.

A few thousand photos are soon known by heart. All of them are turned, shifted, enlarged and colored
in a few ways, drawn once; a picture and its neighbors are always changed in the same way, so that
their blocks keep matching. The network reads which way it was (arXiv 2206.00364, appendix F.2), and
is asked for pictures that were not changed when it paints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 8  # that describe a way


class Ways(NamedTuple):
    """Ways to change photos; the first of them changes nothing.

    Attributes:
        places: (V, 2, 3), where pixels come from, as `affine_grid` takes it.
        colors: (V, 3, 3) that channels are multiplied by.
        shifts: (V,) that are added to all channels.
        told: (V, `NUMBERS`) what a network is told of them; zeros for the first.
    """

    places: Tensor
    colors: Tensor
    shifts: Tensor
    told: Tensor


def draw_ways(count: int, seed: int = 0) -> Ways:
    """Draws ways: up to 20 degrees, an eighth of the side, a sixth in size; and of light and color.

    Args:
        count: of ways, the first included.
        seed: of the draw.
    """
    draw = torch.Generator().manual_seed(seed)
    told = torch.randn(count, NUMBERS, generator=draw).clamp(-2, 2) / 2
    told[0] = 0
    turn, zoom, right, down, light, contrast, vivid, warm = told.unbind(1)
    angle, scale = math.radians(20) * turn, torch.exp(-0.16 * zoom)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    places = torch.stack([cos, -sin, 0.12 * right, sin, cos, 0.12 * down], dim=1)
    gray = torch.full((3, 3), 1 / 3)
    saturation = torch.exp(0.35 * vivid)[:, None, None]
    tint = torch.diag_embed(torch.stack([0.08 * warm, 0 * warm, -0.08 * warm], dim=1))
    colors = gray + saturation * (torch.eye(3) - gray) + tint
    colors = colors * torch.exp(0.2 * contrast)[:, None, None]
    return Ways(places.view(-1, 2, 3), colors, 0.15 * light, told)


def changed(photos: Tensor, ways: Ways, number: int) -> Tensor:
    """Photos (B, 3, S, S) in [-1, 1], changed in one of the ways."""
    place = ways.places[number].to(photos).expand(len(photos), -1, -1)
    grid = F.affine_grid(place, list(photos.shape), align_corners=False)
    moved = F.grid_sample(photos, grid, "bicubic", "reflection", align_corners=False)
    colored = torch.einsum("ij,bjhw->bihw", ways.colors[number].to(photos), moved)
    return (colored + ways.shifts[number].to(photos)).clamp(-1, 1)
