"""Whether block borders can be seen in the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.data.photos import to_float


def seam_ratio(images: Tensor, grid: int = 4) -> float:
    """Mean absolute pixel jump across block borders / the same 2 and 3 pixels away.

    1 means that borders cannot be told from their surroundings; real photos have about 1.

    Args:
        images: (N, 3, H, W), uint8 or float.
        grid: Blocks per side, at least 2.
    """
    at, beside = seam_jumps(images, grid)
    return float(at.sum() / beside.sum().clamp_min(1e-12))


def seam_jumps(images: Tensor, grid: int = 4) -> tuple[Tensor, Tensor]:
    """Mean absolute jump (N,) per image at the borders and beside them, in both directions."""
    size = min(images.shape[-2:])
    if grid < 2 or size < 8 * grid:
        raise RissoleError(f"a {grid}x{grid} grid on {size} pixels has no borders to compare")
    pairs = [_jumps_along(to_float(images).transpose(-1, axis), grid) for axis in (-1, -2)]
    at, beside = (torch.stack(part).mean(dim=0) for part in zip(*pairs, strict=True))
    return at, beside


def _jumps_along(images: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    width = images.shape[-1]
    jumps = images.diff(dim=-1).abs().double().mean(dim=(1, 2))  # (N, W - 1); i is between i, i + 1
    borders = torch.tensor([round(i * width / grid) - 1 for i in range(1, grid)])
    beside = (borders[:, None] + torch.tensor([-3, -2, 2, 3])).flatten()
    return jumps[:, borders].mean(dim=1), jumps[:, beside].mean(dim=1)
