"""Random changes of photos, a batch at a time, on the device of the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Numbers (n,) between two, on the generator's device."""
    return torch.empty(n, device=generator.device).uniform_(low, high, generator=generator)


def chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    """Bool (n,), true with a probability."""
    return uniform(n, 0, 1, generator) < probability


def jitter_colors(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Random hue, saturation, contrast and brightness per photo; one in ten turns gray."""
    n = len(batch)
    turn = _hue_matrix(uniform(n, -0.3, 0.3, generator))
    batch = torch.einsum("bij,bjhw->bihw", turn, batch)
    gray = batch.mean(dim=1, keepdim=True)
    saturation = uniform(n, 0.6, 1.4, generator) * (~chance(n, 0.1, generator)).float()
    batch = gray + (batch - gray) * saturation[:, None, None, None]
    contrast = uniform(n, 0.6, 1.4, generator)[:, None, None, None]
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    return (batch + uniform(n, -0.25, 0.25, generator)[:, None, None, None]).clamp(-1, 1)


def turn_hue(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Photos (B, 3, H, W) in any other hue, each as a whole: what matched still matches."""
    turn = _hue_matrix(uniform(len(batch), -math.pi, math.pi, generator))
    return torch.einsum("bij,bjhw->bihw", turn, batch).clamp(-1, 1)


def enlarged(batch: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Of a share of photos (B, C, H, W) a random square, half as large as they are, in their size.

    The others stay as they are. float32: half precision cannot tell a pixel from the next.
    """
    chosen, side = chance(len(batch), share, generator), batch.shape[-1]
    scale = 1 - 0.5 * chosen.float()
    room = (1 - scale)[:, None] * torch.stack(
        [uniform(len(batch), -1, 1, generator) for _ in range(2)], dim=1
    )
    cells = (2 * torch.arange(side, device=batch.device) + 1) / side - 1
    x, y = (scale[:, None] * cells + room[:, i : i + 1] for i in range(2))
    where = torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1)
    return F.grid_sample(batch.float(), where, padding_mode="border", align_corners=False)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of RGB about the gray axis by `angle` radians (B,), by Rodrigues."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    eye = torch.eye(3, device=angle.device)  # nothing is copied to the device: graphs forbid it
    third = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = (eye.roll(1, 0) - eye.roll(-1, 0)) / 3**0.5
    return cos * eye + (1 - cos) * third + sin * cross


def blurred(batch: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (separable, reflected borders) with one sigma in pixels at 128 px."""
    sigma = sigma * batch.shape[-1] / 128
    radius = max(1, math.ceil(2.5 * sigma))
    taps = torch.arange(-radius, radius + 1, device=batch.device, dtype=batch.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(batch.shape[1], 1, -1)
    padded = F.pad(batch, (radius,) * 4, mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None], groups=batch.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=batch.shape[1])
