"""Cutting a canvas into blocks with a halo, and stitching blocks into a canvas.

A canvas of side S is cut into `grid x grid` blocks of side m = S / grid. A block's *window* is the
block with `halo` cells of its surroundings on every side; beyond the canvas it holds zeros. All
functions work at any resolution: a feature map of a half the canvas's size has half its halo.
"""

from __future__ import annotations

import math
from typing import Any

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
        index: (B, n) raster numbers of the blocks, no block twice.

    Returns:
        (B * n, w * w, ...).
    """
    if grid == 1:
        return maps.flatten(1, 2)
    taken = _TakeWindows.apply(maps.flatten(3), index, grid, halo)
    return taken.flatten(0, 1).unflatten(-1, maps.shape[3:])


class _TakeWindows(torch.autograd.Function):
    """Windows (B, n, w * w, C) of maps (B, S, S, C).

    Its own gradient: windows overlap, and adding them up cell by cell with atomic operations, as
    the gradient of an indexed read does, takes several times as long as the rest of the network.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, index: Tensor, grid: int, halo: int) -> Tensor:
        ctx.save_for_backward(index)
        ctx.grid, ctx.halo, ctx.size = grid, halo, maps.shape[1]
        b, size = maps.shape[:2]
        block, w, padded = size // grid, window_size(size, grid, halo), size + 2 * halo
        line = torch.arange(w, device=maps.device)
        cells = line[:, None] * padded + line
        corner = (index // grid * padded + index % grid) * block
        corner = corner + torch.arange(b, device=maps.device)[:, None] * padded**2
        rows = (corner[..., None] + cells.flatten()).flatten()
        around = F.pad(maps, (0, 0, halo, halo, halo, halo)).flatten(0, 2)
        return around.index_select(0, rows).view(*index.shape, w * w, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,), grid, halo = ctx.saved_tensors, ctx.grid, ctx.halo
        (b, _, cells, c), m = grad.shape, ctx.size // ctx.grid
        every = grad.new_zeros(b, grid**2, cells, c)
        every.scatter_(1, index[..., None, None].expand_as(grad), grad)
        total = grad.new_zeros(b, ctx.size + 2 * halo, ctx.size + 2 * halo, c)
        w = m + 2 * halo
        every = every.view(b, grid, grid, w, w, c)
        tile = math.gcd(m, w)
        for y in range(0, w, tile):  # equal tiles of all windows at once: they never overlap
            for x in range(0, w, tile):
                there = _tiles(total[:, y:, x:], grid, m, tile)
                there += every[:, :, :, y : y + tile, x : x + tile].transpose(2, 3)
        size = ctx.size + halo
        return total[:, halo:size, halo:size], None, None, None


def _tiles(maps: Tensor, grid: int, step: int, tile: int) -> Tensor:
    """View (B, g, tile, g, tile, C) of square tiles that start every `step` cells."""
    b, _, _, c = maps.shape
    sb, sy, sx, sc = maps.stride()
    return maps.as_strided(
        (b, grid, tile, grid, tile, c), (sb, step * sy, sy, step * sx, sx, sc),
        maps.storage_offset(),
    )  # fmt: skip


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

    The ramp of 2 * halo cells is centered on the block's border, so that the weights of all windows
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


def blend_active(windows: Tensor, active: Tensor, context: Tensor, grid: int, halo: int) -> Tensor:
    """Lays the windows of all blocks over each other, of each picture those being painted.

    What `blend` does for the same blocks of all pictures; without loops and recordable.

    Args:
        windows: (B, g * g, C, w, w).
        active: bool (B, g * g), whose windows count.
        context: bool (B,), False where blocks do not see each other: nothing fades there.

    Returns:
        (B, C, S, S); cells that no window sees are 0.
    """
    if grid == 1:
        return windows[:, 0]
    c, w = windows.shape[2:4]
    block = w - 2 * halo
    alone = windows.new_zeros(w, w)
    inner(alone, grid, halo).fill_(1)
    fading = blend_weights(block, halo, windows.device)
    weight = torch.where(context[:, None, None, None], fading, alone) * active[..., None, None]
    both = torch.cat([windows * weight[:, :, None], weight[:, :, None]], dim=2)
    columns = both.flatten(2).transpose(1, 2)
    size = block * grid + 2 * halo
    total = inner(F.fold(columns, size, w, stride=block), grid, halo)
    return total[:, :c] / total[:, c:].clamp(min=1e-6)


def per_cell(values: Tensor, size: int) -> Tensor:
    """Spreads one value per block over the block's cells: (..., g, g) to (..., size, size)."""
    times = size // values.shape[-1]
    return values.repeat_interleave(times, -1).repeat_interleave(times, -2)
