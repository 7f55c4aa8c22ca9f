"""How near blocks are to their neighbors' blocks, by what can be seen from afar."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Nearness:
    """How near each block is to the nearest of its neighbors', from 0 to 1.

    1 is nearer than 19 of 20 blocks are to a neighbor; what is farther than half of them gets 0,
    as do blocks without neighbors.

    Args:
        latents: (N, C, S, S) of some pictures.
        table: (N, P) of their neighbors, numbers into `pool`.
        pool: (M, C, S, S).
    """

    def __init__(self, latents: Tensor, table: Tensor, pool: Tensor):
        some = torch.arange(len(latents), device=latents.device)[:512]
        near = pool[table[some, :4]].float()
        found = block_distances(latents[some].float(), near, 4).flatten()
        self.near = found.quantile(0.05).item()
        self.usual = max(found.median().item(), self.near + 1e-3)

    def __call__(self, clean: Tensor, near: Tensor, visible: Tensor) -> Tensor:
        """Of pictures (B, C, S, S) to those (B, K, C, S, S) that blocks (B, g, g, K) see."""
        distance = block_distances(clean, near, visible.shape[1])
        distance = distance.masked_fill(~visible, torch.inf).amin(-1)
        return ((self.usual - distance) / (self.usual - self.near)).clamp(0, 1)


def block_distances(clean: Tensor, near: Tensor, grid: int) -> Tensor:
    """How far blocks are from those of K pictures, by the colors of their quarters: (B, g, g, K).

    Args:
        clean: (B, C, S, S).
        near: (B, K, C, S, S).
        grid: blocks on a side.
    """
    quarters = [F.adaptive_avg_pool2d(x, 2 * grid) for x in (clean, near.flatten(0, 1))]
    apart = (quarters[0][:, None] - quarters[1].unflatten(0, near.shape[:2])).square()
    return F.avg_pool2d(apart.mean(2), 2).sqrt().movedim(1, -1)
