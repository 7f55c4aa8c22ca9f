"""Whether block borders can be seen in the pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.distances import interval


def seam_ratio(images: Tensor, grid: int = 4) -> float:
    """Mean absolute pixel jump across block borders / the same 2 and 3 pixels away.

    1 means that borders cannot be told from their surroundings; real photos have about 1.

    Args:
        images: (N, 3, H, W), uint8 or float.
        grid: Blocks per side, at least 2.
    """
    at, beside = seam_jumps(images, grid)
    return float(at.sum() / beside.sum().clamp_min(1e-12))


def seam_metrics(images: Tensor, grid: int = 4, seed: int = 0) -> dict[str, Any]:
    """`seam_ratio` of images, and `seam_ratio_ci95`, its bootstrap interval."""
    at, beside = seam_jumps(images, grid)
    spread = interval(lambda i: float(at[i].sum() / beside[i].sum()), len(at), seed=seed)
    return {"seam_ratio": seam_ratio(images, grid), "seam_ratio_ci95": spread}


def check_borders(size: int, grid: int) -> None:
    """Raises RissoleError where blocks are too small, or too few, to compare their borders."""
    if grid < 2 or size < 8 * grid:
        raise RissoleError(f"a {grid}x{grid} grid on {size} pixels has no borders to compare")


def seam_jumps(images: Tensor, grid: int = 4) -> tuple[Tensor, Tensor]:
    """Mean absolute jump (N,) per image at the borders and beside them, in both directions."""
    check_borders(min(images.shape[-2:]), grid)
    found = []
    for axis in (-1, -2):
        along = to_float(images).transpose(-1, axis)
        jumps = along.diff(dim=-1).abs().double().mean(dim=(1, 2))  # (N, W - 1)
        # jump number i is between pixels i and i + 1
        borders = torch.tensor([round(i * along.shape[-1] / grid) - 1 for i in range(1, grid)])
        around = (borders[:, None] + torch.tensor([-3, -2, 2, 3])).flatten()
        found.append(torch.stack([jumps[:, x].mean(dim=1) for x in (borders, around)]))
    at, beside = torch.stack(found).mean(dim=0)
    return at, beside
