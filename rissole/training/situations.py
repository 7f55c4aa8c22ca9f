"""What a denoiser meets: batches of every situation, drawn on the device."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from rissole.blocks import crop_windows, inner, per_cell
from rissole.models.interface import State
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.trainer import Batches

# number 0 to 4 in `Sampler.state`
SITUATIONS = ("parallel", "sequential", "repaint", "mixed", "independent")


class Sampler:
    """Draws training batches on the device."""

    def __init__(
        self,
        latents: Tensor,
        table: Tensor,
        settings: DenoiserTraining,
        generator: torch.Generator,
        pool: Tensor | None = None,
    ):
        self.latents, self.table, self.settings = latents, table, settings
        self.pool = latents if pool is None else pool
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

    def neighbors(self, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Neighbors' latents (B, K, C, S, S) and which are shown (B, K).

        They come from the nearest K to 64, at random: a gallery's neighbors may be near or far.
        """
        b, pool = len(index), self.table.shape[1]
        reach = count + (self.rand(b, 1) ** 2 * (pool - count)).round()
        score = self.rand(b, pool)
        score = score.masked_fill(torch.arange(pool, device=score.device) >= reach, 2.0)
        picked = score.argsort(1)[:, :count]
        shown = torch.arange(count, device=score.device) < 1 + (self.rand(b, 1) * count).floor()
        shown &= self.rand(b, 1) >= self.settings.drop
        return self.pool[self.table[index].gather(1, picked)].float(), shown

    def state(self, clean: Tensor, grid: int) -> tuple[State, Tensor, Tensor]:
        """A noisy canvas, the noise, and which blocks are being painted (B, g * g)."""
        b, n = len(clean), grid * grid
        kind = self.choice(self.settings.situations, b)[:, None]
        level = torch.sigmoid(self.normal(b, 1))  # logit-normal (arXiv 2403.03206, eq. 19)
        number = torch.arange(n, device=clean.device)[None]
        start = (self.rand(b, 1) * n).floor()
        length = 1 + (self.rand(b, 1) * 4).floor()
        run = (number >= start) & (number < start + length)
        some = self.rand(b, n) < self.rand(b, 1).clamp(min=1 / n)
        active = torch.ones(b, n, dtype=torch.bool, device=clean.device)
        active = torch.where(kind == 1, run, torch.where(kind == 2, some, active))
        present = (kind != 1) | (number < start + length)
        levels = torch.where(kind == 3, torch.sigmoid(self.normal(b, n)), level.expand(b, n))
        levels = torch.where(active, levels, torch.zeros_like(levels))
        levels = torch.where(present, levels, torch.ones_like(levels))
        noise = self.normal(*clean.shape)
        on_cells = per_cell(levels.view(b, grid, grid), clean.shape[-1])[:, None]
        canvas = (1 - on_cells) * clean + on_cells * noise
        context = (kind != 4)[:, 0]
        state = State(canvas, levels.view(b, grid, grid), present.view(b, grid, grid), context)
        return state, noise, active & present

    def blocks(self, active: Tensor, count: int) -> Tensor:
        """Numbers (B, count) of blocks to evaluate: those being painted first, else any."""
        return (self.rand(*active.shape) - active.float()).argsort(1)[:, :count]

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
    moved = {k: v.to(device) for k, v in data.items()}
    return Sampler(
        moved[f"{prefix}latents"],
        moved[f"{prefix}neighbors"],
        settings,
        generator,
        moved["latents"],
    )
