"""What a denoiser meets: batches of every situation, drawn on the device."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from rissole.blocks import crop_windows, inner, per_cell
from rissole.models.interface import Aims, State
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.nearness import Nearness
from rissole.training.trainer import Batches

# number 0 to 4 in `Sampler.state`
SITUATIONS = ("parallel", "sequential", "repaint", "mixed", "independent")


class Hood(NamedTuple):
    """Who a batch of pictures has for neighbors.

    Attributes:
        ids: (B, K) numbers of pictures.
        visible: bool (B, g, g, K), which of them each block sees.
        own: bool (B, g, g), blocks with neighbors of their own.
    """

    ids: Tensor
    visible: Tensor
    own: Tensor


class Batch(NamedTuple):
    """Pictures and what they are guided by.

    Attributes:
        clean: (B, C, S, S).
        neighbors: (B, K, C, S, S).
        visible, own: see `Hood`.
        aims: strength of the neighbors, and how all of these pictures were changed.
    """

    clean: Tensor
    neighbors: Tensor
    visible: Tensor
    own: Tensor
    aims: Aims


class Sampler:
    """Draws training batches on the device.

    Args:
        latents: (N, C, S, S) of the pictures.
        table: (N, P) of their neighbors, numbers into `pool`.
        settings: of training.
        generator: of all that is drawn.
        pool: (M, C, S, S), by default the pictures themselves.
        blocks: (16, N, P) of the neighbors of every block of a 4x4 grid.
        changed: (V - 1, N, C, S, S), the pictures in all ways but the first.
        ways: (V, A), what the network is told of the ways.
    """

    def __init__(
        self,
        latents: Tensor,
        table: Tensor,
        settings: DenoiserTraining,
        generator: torch.Generator,
        pool: Tensor | None = None,
        blocks: Tensor | None = None,
        changed: Tensor | None = None,
        ways: Tensor | None = None,
    ):
        self.latents, self.table, self.settings = latents, table, settings
        self.pool = latents if pool is None else pool
        self.block_table, self.ways = blocks, ways
        self.in_ways = None if changed is None else torch.cat([latents[None], changed])
        self.nearness = Nearness(latents, table, self.pool) if settings.told else None
        self.generator = generator
        self.batches = Batches(len(latents), settings.batch_size, generator)

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers."""
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def choice(self, shares: tuple[float, ...], count: int) -> Tensor:
        """Numbers of kinds (count,), drawn with the given shares."""
        drawn = self.rand(count) * sum(shares)
        kind = torch.zeros(count, dtype=torch.long, device=drawn.device)
        for edge in itertools.accumulate(shares[:-1]):
            kind += drawn >= edge
        return kind

    def batch(self, index: Tensor, grid: int) -> Batch:
        """Pictures (B,) with their neighbors."""
        hood = self.hood(index, grid)
        clean, near, told = self.pictures(index, hood.ids)
        aims = Aims(strength=self.strength(clean, near, hood), augmentation=told)
        return Batch(clean, near, hood.visible, hood.own, aims)

    def pictures(self, index: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents (B, C, S, S) of pictures (B,) and (B, K, C, S, S) of their neighbors (B, K).

        Where there are several ways, all of them are changed, neighbors as their picture is, so
        that blocks keep matching; what the network is told of it (B, A) comes along.
        """
        if self.in_ways is None or self.ways is None:
            return self.latents[index].float(), self.pool[ids].float(), None
        way = (self.rand(len(index)) * len(self.ways)).long().clamp(max=len(self.ways) - 1)
        way = torch.where(self.rand(len(index)) < self.settings.plain, 0, way)
        near = self.in_ways[way[:, None], ids].float()
        return self.in_ways[way, index].float(), near, self.ways[way]

    def neighbors(self, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Neighbors' latents (B, K, C, S, S) of whole pictures and which are shown (B, K)."""
        ids, shown = self.nearest(index, count)
        return self.pool[ids].float(), shown

    def hood(self, index: Tensor, grid: int) -> Hood:
        """Neighbors of whole pictures, and on the 4x4 grid those of some blocks."""
        ids, shown = self.nearest(index, self.settings.neighbors)
        visible = shown[:, None, None, :].expand(-1, grid, grid, -1)
        if grid != 4 or self.block_table is None or not self.settings.own:
            return Hood(ids, visible, torch.zeros_like(visible[..., 0]))
        more, seen = self.own(index, self.block_table)
        own = seen.any(-1)
        alone = own & (self.rand(len(index), 1, 1) < 0.7)  # as when a visitor gives them by hand
        visible = torch.cat([visible & ~alone[..., None], seen], dim=-1)
        return Hood(torch.cat([ids, more], dim=1), visible, own)

    def own(self, index: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (B, E) of blocks' own neighbors, and which blocks see them (B, 4, 4, E).

        Each is near to one block. Most are shown to it alone, some to others as well, which they
        may not be near to. Often one block has them all.
        """
        b, e = len(index), self.settings.own_neighbors
        blocks, _, pool = table.shape
        block = (self.rand(b, e) * blocks).long().clamp(max=blocks - 1)
        block = torch.where(self.rand(b, 1) < 0.5, block[:, :1], block)
        place = (self.rand(b, e) ** 2 * pool).long().clamp(max=pool - 1)
        ids = table[block, index[:, None], place].long()
        seen = torch.arange(blocks, device=index.device)[:, None] == block[:, None]
        wide = self.rand(b, 1, e) < 0.3
        seen = seen | (wide & (self.rand(b, blocks, e) < 0.3))
        seen = seen & (self.rand(b, 1, 1) < self.settings.own)
        return ids, seen.unflatten(1, (4, 4))

    def strength(self, clean: Tensor, near: Tensor, hood: Hood) -> Tensor:
        """What blocks (B, g, g) are told of how near their neighbors are; most often nothing.

        Few or all of a picture are told, those with neighbors of their own mostly.
        """
        if self.nearness is None:
            return torch.zeros_like(hood.own, dtype=torch.float)
        count = len(clean)
        told = self.rand(*hood.own.shape) < self.rand(count, 1, 1)
        told = told | (hood.own & (self.rand(count, 1, 1) < 0.7))
        told = told & (self.rand(count, 1, 1) < self.settings.told)
        return self.nearness(clean, near, hood.visible) * told

    def nearest(self, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Numbers (B, K) of neighbors and which are shown (B, K).

        They come from the nearest K to 64, at random: a gallery's neighbors may be near or far.
        """
        b, pool = len(index), self.table.shape[1]
        reach = count + (self.rand(b, 1) ** 2 * (pool - count)).round()
        score = self.rand(b, pool)
        score = score.masked_fill(torch.arange(pool, device=score.device) >= reach, 2.0)
        picked = score.argsort(1)[:, :count]
        shown = torch.arange(count, device=score.device) < 1 + (self.rand(b, 1) * count).floor()
        if self.settings.all_shown:
            shown |= self.rand(b, 1) < self.settings.all_shown
        shown &= self.rand(b, 1) >= self.settings.drop
        return self.table[index].gather(1, picked), shown

    def state(
        self, clean: Tensor, grid: int, level: Tensor | None = None
    ) -> tuple[State, Tensor, Tensor]:
        """A noisy canvas, the noise, and which blocks are being painted (B, g * g).

        Args:
            clean: (B, C, S, S).
            grid: blocks on a side.
            level: (B, 1) noise level of the blocks being painted; drawn by default.
        """
        b, n = len(clean), grid * grid
        kind = self.choice(self.settings.situations, b)[:, None]
        if level is None:  # logit-normal (arXiv 2403.03206, eq. 19)
            level = torch.sigmoid(self.normal(b, 1))
        number = torch.arange(n, device=clean.device)[None]
        start = (self.rand(b, 1) * n).floor()
        length = 1 + (self.rand(b, 1) * 4).floor()
        run = (number >= start) & (number < start + length)
        some = (self.rand(b, n) < self.rand(b, 1)) | (number == start)  # one at least
        active = torch.ones(b, n, dtype=torch.bool, device=clean.device)
        active = torch.where(kind == 1, run, torch.where(kind == 2, some, active))
        present = (kind != 1) | (number < start + length)
        levels = torch.where(kind == 3, torch.sigmoid(self.normal(b, n)), level.expand(b, n))
        levels = torch.where(active, levels, torch.zeros_like(levels))
        levels = torch.where(present, levels, torch.ones_like(levels))
        noise = self.normal(*clean.shape)
        on_cells = per_cell(levels.view(b, grid, grid), clean.shape[-1])[:, None]
        canvas = (1 - on_cells) * clean + on_cells * noise
        blinkered = self.settings.blinkered
        view = self.rand(b) >= blinkered if blinkered else None
        levels, present = levels.view(b, grid, grid), present.view(b, grid, grid)
        state = State(canvas, levels, present, (kind != 4)[:, 0], view)
        return state, noise, active & present.flatten(1)

    def blocks(self, active: Tensor, own: Tensor, count: int) -> Tensor:
        """Numbers (B, count) of blocks to evaluate: those being painted first, else any.

        Blocks (B, g, g) with neighbors of their own have twice the chance of others.
        """
        late = self.rand(*active.shape) - active.float()
        if self.settings.own:
            late = late - active.float() - 0.5 * own.flatten(1).float()
        return late.argsort(1)[:, :count]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)


def loss_mask(state: State, active: Tensor, blocks: Tensor, halo: int) -> Tensor:
    """Cells (B, n, w, w) that count: painted now, and at the noise level of the window's block."""
    grid, size = state.levels.shape[-1], state.canvas.shape[-1]
    b = len(blocks)
    live = per_cell(active.view(b, grid, grid).float(), size)[:, None]
    level = per_cell(state.levels, size)[:, None]
    cells = take(crop_windows(torch.cat([live, level], dim=1), grid, halo), blocks)
    own = state.levels.flatten(1).gather(1, blocks)[..., None, None]
    same = (cells[:, :, 0] > 0) & ((cells[:, :, 1] - own).abs() < 1e-6)
    if grid > 1:  # a block without context sees, and answers for, itself alone
        alone = torch.zeros_like(same)
        inner(alone, grid, halo).fill_(True)
        same &= alone | state.context[:, None, None, None]
    return (same & active.gather(1, blocks)[..., None, None]).float()


def take(windows: Tensor, blocks: Tensor) -> Tensor:
    """The windows (B, n, ...) of some blocks (B, n), of those (B, g * g, ...) of all."""
    return windows[torch.arange(len(blocks), device=blocks.device)[:, None], blocks]


def make_sampler(
    data: dict[str, Tensor],
    prefix: str,
    settings: DenoiserTraining,
    generator: torch.Generator,
    device: str,
) -> Sampler:
    """A sampler of the training (prefix "") or held-out ("held_") pictures of `make_latents`."""
    more = {}
    if settings.own and not prefix:
        more["blocks"] = data.get("block_neighbors")
    if settings.plain < 1 and not prefix:
        more |= {"changed": data.get("changed"), "ways": data.get("ways")}
    return Sampler(
        data[f"{prefix}latents"].to(device),
        data[f"{prefix}neighbors"].to(device),
        settings,
        generator,
        data["latents"].to(device),
        **{name: None if x is None else x.to(device) for name, x in more.items()},
    )
