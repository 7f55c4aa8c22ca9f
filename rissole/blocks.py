"""Cutting a canvas into blocks with a halo, and stitching blocks into a canvas.

A canvas of side S is cut into `grid x grid` blocks of side m = S / grid. A block's *window* is the
block with `halo` cells of its surroundings on every side; beyond the canvas it holds zeros. All
functions work at any resolution: a feature map of a half the canvas's size has half its halo.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_size(size: int, grid: int, halo: int) -> int:
    """Side of a window; a grid of one block is the whole canvas and needs no halo."""
    return size if grid == 1 else size // grid + 2 * halo


def crop_windows(canvas: Tensor, grid: int, halo: int) -> Tensor:
    """Cuts one window per block.

    Args:
        canvas: (..., C, S, S).

    Returns:
        (..., grid * grid, C, w, w), blocks in raster order.
    """
    if grid == 1:
        return canvas.unsqueeze(-4)
    block, w = canvas.shape[-1] // grid, window_size(canvas.shape[-1], grid, halo)
    padded = F.pad(canvas, (halo,) * 4)
    windows = padded.unfold(-2, w, block).unfold(-2, w, block)  # (..., C, g, g, w, w)
    windows = windows.movedim(-5, -3)  # (..., g, g, C, w, w)
    return windows.flatten(-5, -4)


def take_windows(maps: Tensor, index: Tensor, grid: int, halo: int) -> Tensor:
    """Picks the windows of some blocks out of maps whose channels come last.

    Args:
        maps: (B, S, S, ...).
        index: (B, n) raster numbers of the blocks.

    Returns:
        (B * n, w * w, ...).
    """
    b, size = maps.shape[:2]
    if grid == 1:
        return maps.flatten(1, 2)
    block, w, padded = size // grid, window_size(size, grid, halo), size + 2 * halo
    line = torch.arange(w, device=maps.device)
    cells = line[:, None] * padded + line
    corner = (index // grid * padded + index % grid) * block
    corner = corner + torch.arange(b, device=maps.device)[:, None] * padded**2
    rows = (corner[..., None] + cells.flatten()).flatten()
    around = F.pad(maps.flatten(3), (0, 0, halo, halo, halo, halo)).flatten(0, 2)
    return around.index_select(0, rows).view(-1, w * w, *maps.shape[3:])


def crop_blocks(canvas: Tensor, grid: int) -> Tensor:
    """Cuts the blocks themselves: (..., C, S, S) to (..., grid * grid, C, m, m)."""
    return crop_windows(canvas, grid, 0)


def inner(windows: Tensor, grid: int, halo: int) -> Tensor:
    """The block inside each window: (..., w, w) to (..., m, m)."""
    if grid == 1 or halo == 0:
        return windows
    return windows[..., halo:-halo, halo:-halo]


def stitch(blocks: Tensor, grid: int) -> Tensor:
    """Lays blocks side by side: (B, grid * grid, C, m, m) to (B, C, S, S)."""
    b, _, c, m, _ = blocks.shape
    tiles = blocks.reshape(b, grid, grid, c, m, m)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(b, c, grid * m, grid * m)


def blend_weights(block: int, halo: int, device: torch.device | str = "cpu") -> Tensor:
    """Weights (w, w) of a window: 1 inside, falling to 0 at its rim.

    The ramp of 2 * halo cells is centred on the block's border, so that the weights of all windows
    add up to 1 on every cell that two to four of them see.
    """
    position = torch.arange(block + 2 * halo, device=device) + 0.5
    ramp = (position / (2 * halo)).clamp(max=1)
    line = torch.minimum(ramp, ramp.flip(0))
    return line[:, None] * line[None, :]


def blend(windows: Tensor, index: Tensor, grid: int, halo: int) -> Tensor:
    """Lays overlapping windows over each other, each fading out where the next takes over.

    Args:
        windows: (B, n, C, w, w), windows of the blocks in `index`.
        index: (n,) raster numbers of the blocks; cells that no window sees stay 0.

    Returns:
        (B, C, S, S), the weighted mean of the windows on each cell.
    """
    if grid == 1:
        return windows[:, 0]
    b, n, c, w, _ = windows.shape
    size = (w - 2 * halo) * grid
    weight = blend_weights(w - 2 * halo, halo, windows.device).to(windows.dtype)
    total = windows.new_zeros(b, c, size + 2 * halo, size + 2 * halo)
    mass = windows.new_zeros(size + 2 * halo, size + 2 * halo)
    for i, number in enumerate(index.tolist()):
        y, x = (v * (w - 2 * halo) for v in divmod(number, grid))
        total[..., y : y + w, x : x + w] += windows[:, i] * weight
        mass[y : y + w, x : x + w] += weight
    return inner(total / mass.clamp(min=1e-6), grid, halo)


def per_cell(values: Tensor, size: int) -> Tensor:
    """Spreads one value per block over the block's cells: (..., g, g) to (..., size, size)."""
    times = size // values.shape[-1]
    return values.repeat_interleave(times, -1).repeat_interleave(times, -2)
