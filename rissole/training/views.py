"""Views and damages of photos that features are learned from, a batch at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.evaluation.augmentation import blurred, chance, jitter_colors, uniform

DAMAGES = ("intact", "warped", "foreign pieces", "moved pieces", "blurred", "noisy")


def random_view(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One augmented view per photo: crop, flip, colors, sometimes gray, now and then blurred.

    Args:
        batch: (B, 3, H, W) in [-1, 1].
        generator: On the device of `batch`.
    """
    view = jitter_colors(_sample(batch, _crop_grid(batch, (0.35, 1.0), generator)), generator)
    # Seldom: features that ignore blur would measure soft pictures as good ones.
    blur = chance(len(batch), 0.1, generator).float()[:, None, None, None]
    return torch.lerp(view, blurred(view, 1.0), blur)


def random_damage(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Damages every photo in one random way of `DAMAGES`.

    All kinds pass through the same single resampling, so that its softness tells nothing.

    Args:
        batch: (B, 3, H, W) in [-1, 1].
        generator: On the device of `batch`.

    Returns:
        Images (B, 3, H, W) and kinds (B,), indices into `DAMAGES`.
    """
    n = len(batch)
    kinds = torch.randint(len(DAMAGES), (n,), generator=generator, device=batch.device)
    picked = [(kinds == i).float()[:, None, None, None] for i in range(len(DAMAGES))]
    grid = _crop_grid(batch, (0.75, 1.0), generator)
    image = _sample(batch, grid + picked[1] * _warp_field(batch, generator))
    mask = _piece_mask(batch, generator)
    image = torch.lerp(image, _sample(batch.roll(1, dims=0), grid), mask * picked[2])
    image = torch.lerp(image, _sample(batch, grid + _shift(batch, generator)), mask * picked[3])
    image = jitter_colors(image, generator)
    image = torch.lerp(image, blurred(image, 1.2), picked[4])
    noise = torch.empty_like(image).normal_(generator=generator)
    strength = uniform(n, 0.04, 0.15, generator)[:, None, None, None]
    return image + picked[5] * strength * noise, kinds


def _crop_grid(batch: Tensor, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Sampling grids (B, H, W, 2) of random resized, possibly mirrored crops.

    Args:
        batch: (B, 3, H, W), only its shape is used.
        scale: Smallest and largest share of the area that is kept.
        generator: On the device of `batch`.
    """
    n = len(batch)
    side = uniform(n, *scale, generator).sqrt()
    stretch = uniform(n, math.log(3 / 4), math.log(4 / 3), generator).mul(0.5).exp()
    width, height = (side * stretch).clamp_max(1), (side / stretch).clamp_max(1)
    mirror = 1 - 2 * chance(n, 0.5, generator).float()
    theta = torch.zeros(n, 2, 3, device=batch.device)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2] = uniform(n, -1, 1, generator) * (1 - width)
    theta[:, 1, 2] = uniform(n, -1, 1, generator) * (1 - height)
    return F.affine_grid(theta, list(batch.shape), align_corners=False)


def _sample(batch: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def _warp_field(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Smooth displacements (B, H, W, 2), 3 to 10 px at 128 px, varying over some 30 px."""
    coarse = torch.empty(len(batch), 2, 5, 5, device=batch.device).normal_(generator=generator)
    coarse = coarse * uniform(len(batch), 0.05, 0.15, generator)[:, None, None, None]
    field = F.interpolate(coarse, batch.shape[-2:], mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _piece_mask(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Masks (B, 1, H, W) of a few cells of a 4x4 grid, hard or feathered by an eighth of a side."""
    n = len(batch)
    share = uniform(n, 0.1, 0.5, generator)[:, None, None, None]
    cells = torch.empty(n, 1, 4, 4, device=batch.device).uniform_(generator=generator)
    # The smallest cell is always in: a mask without any cell would be mislabelled.
    cells = ((cells < share) | (cells == cells.amin(dim=(2, 3), keepdim=True))).float()
    hard = F.interpolate(cells, batch.shape[-2:], mode="nearest")
    soft = F.interpolate(cells, scale_factor=4, mode="nearest")
    soft = F.interpolate(soft, batch.shape[-2:], mode="bilinear")
    return torch.where(chance(n, 0.5, generator)[:, None, None, None], soft, hard)


def _shift(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Offsets (B, 1, 1, 2) of an eighth to a half of the picture, in any direction."""
    angle = uniform(len(batch), 0, 2 * math.pi, generator)
    length = uniform(len(batch), 0.25, 1.0, generator)
    return torch.stack([angle.cos() * length, angle.sin() * length], dim=-1)[:, None, None]
