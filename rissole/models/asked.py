"""The inputs of a denoiser beside what is on the canvas."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rissole.models.interface import Aims
from rissole.models.layers import fourier


class Asked(nn.Module):
    """What `Aims` add to the embedding of a block: nothing before they are trained.

    Every last layer starts at zero, so that a network that is given these inputs goes on from the
    weights of one without them.

    Args:
        width: of the embedding.
        flow_map, strength, augmentation: as in `DenoiserConfig`.
    """

    def __init__(self, width: int, flow_map: bool, strength: bool, augmentation: int):
        super().__init__()
        last = nn.Linear(width, width, bias=False)
        step = nn.Sequential(nn.Linear(128 + 32, width), nn.SiLU(), last)
        self.step = step if flow_map else None
        self.strength = nn.Linear(32, width, bias=False) if strength else None
        self.augmentation = nn.Linear(augmentation, width, bias=False) if augmentation else None
        for layer in (last, self.strength, self.augmentation):
            if layer is not None:
                nn.init.zeros_(layer.weight)

    def forward(self, levels: Tensor, aims: Aims, dtype: torch.dtype) -> Tensor:
        """(B, g, g, E), or what broadcasts to it, for blocks at levels (B, g, g)."""
        total = torch.zeros((), dtype=dtype, device=levels.device)
        if self.step is not None:
            total = total + self.step(step_features(levels, aims).to(dtype))
        if self.strength is not None:
            wanted = torch.zeros_like(levels) if aims.strength is None else aims.strength
            total = total + self.strength(fourier(wanted, 32, 10.0).to(dtype))
        if self.augmentation is not None and aims.augmentation is not None:
            total = total + self.augmentation(aims.augmentation.to(dtype))[:, None, None]
        return total


def step_features(levels: Tensor, aims: Aims) -> Tensor:
    """(B, g, g, 160): how far a step goes, and its guidance."""
    length = torch.zeros_like(levels) if aims.ends is None else levels - aims.ends
    extra = torch.zeros_like(levels)
    if aims.guidance is not None:
        extra = extra + (aims.guidance[:, None, None] - 1) / 4
    return torch.cat([fourier(length, 128, 100.0), fourier(extra, 32, 10.0)], dim=-1)
