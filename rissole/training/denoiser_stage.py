"""Stage 3: the denoiser, trained on every situation it will meet.

One picture of the batch may be painted by all blocks in step, another block after block, a third
repaired in one place, a fourth by blocks that do not see each other; on a 4x4, 2x2 or 1x1 grid;
with one to all of its neighbors, or none. The loss counts on every cell of a window that carries
the block's own noise level, not only on the block: four times the signal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rissole.blocks import crop_windows, inner, per_cell
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.models.interface import State
from rissole.training.trainer import (
    Budget,
    draw,
    fit,
    infinite_batches,
    rank,
    seeded,
    session_seed,
    write_json,
)

# number 0 to 4 in `Sampler.state`
SITUATIONS = ("parallel", "sequential", "repaint", "mixed", "independent")


@dataclass(frozen=True)
class DenoiserTraining:
    """Settings of the stage.

    Attributes:
        batch_size: pictures per step.
        peak_rate: highest learning rate of AdamW.
        grids: share of steps on grids of 4x4, 2x2 and 1x1 blocks.
        situations: share of pictures painted in the order of `SITUATIONS`.
        windows: blocks evaluated per picture on the 4x4 grid; the others' loss is left out.
        neighbors: most neighbors shown in training.
        drop: share of pictures without neighbors, which makes guidance possible.
    """

    batch_size: int = 128
    peak_rate: float = 1e-3
    grids: tuple[float, float, float] = (0.8, 0.05, 0.15)
    situations: tuple[float, ...] = (0.76, 0.1, 0.06, 0.02, 0.06)
    windows: int = 4
    neighbors: int = 3
    drop: float = 0.1


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
        self.batches = infinite_batches(len(latents), settings.batch_size, generator)

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


def velocity_loss(model: nn.Module, sampler: Sampler, grid: int, index: Tensor) -> Tensor:
    """The mean squared velocity error of one batch of pictures (B,)."""
    clean = sampler.latents[index].float()
    neighbors, shown = sampler.neighbors(index, sampler.settings.neighbors)
    state, noise, active = sampler.state(clean, grid)
    count = {1: 1, 2: 4, 4: sampler.settings.windows}[grid]
    blocks = sampler.blocks(active, count)
    visible = shown[:, None, None, :].expand(-1, grid, grid, -1)
    device = clean.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        features = model.encode_neighbors(neighbors)
        output, _ = model(state, features, visible, blocks)
    halo = model.config.halo
    mask = loss_mask(state, active, blocks, halo)
    target = _take(crop_windows(noise - clean, grid, halo), blocks)
    error = (output.float() - target).square().mean(2) * mask
    return error.sum() / mask.sum().clamp(min=1)


def loss_mask(state: State, active: Tensor, blocks: Tensor, halo: int) -> Tensor:
    """Cells (B, n, w, w) that count: painted now, and at the noise level of the window's block."""
    grid, size = state.levels.shape[-1], state.canvas.shape[-1]
    b = len(blocks)
    live = per_cell(active.view(b, grid, grid).float(), size)[:, None]
    level = per_cell(state.levels, size)[:, None]
    cells = _take(crop_windows(torch.cat([live, level], dim=1), grid, halo), blocks)
    own = state.levels.flatten(1).gather(1, blocks)[..., None, None]
    same = (cells[:, :, 0] > 0) & ((cells[:, :, 1] - own).abs() < 1e-6)
    if grid > 1:  # a block without context sees, and answers for, itself alone
        alone = torch.zeros_like(same)
        inner(alone, grid, halo).fill_(True)
        same &= alone | state.context[:, None, None, None]
    return (same & active.gather(1, blocks)[..., None, None]).float()


def _take(windows: Tensor, blocks: Tensor) -> Tensor:
    return windows[torch.arange(len(blocks), device=blocks.device)[:, None], blocks]


def train_denoiser(
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    config: DenoiserConfig | None = None,
    settings: DenoiserTraining | None = None,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains on the latents of `make_latents` and writes the averaged weights to `out`.

    Args:
        schedule: the part of the learning-rate schedule this budget covers; a run in two sessions
            is (0, 0.5), then (0.5, 1).

    Returns:
        Losses on training and held-out latents.
    """
    settings = settings or DenoiserTraining()
    model = seeded(lambda: Denoiser(config), seed).to(device)
    generator = draw(session_seed(seed, out / "raw.safetensors"), schedule, device)
    sampler = make_sampler(data, "", settings, generator, device)
    losses = [lambda index, g=g: velocity_loss(model, sampler, g, index) for g in (4, 2, 1)]
    history = fit(
        model, losses, settings.grids, sampler.batches, sampler.generator, out, budget,
        peak_rate=settings.peak_rate, schedule=schedule, seed=seed,
    )  # fmt: skip
    result = validate(model, data, settings, device)
    if rank() == 0:
        write_json(out / f"training-{schedule[1]:g}.json", {**result, "history": history})
    return result


@torch.no_grad()
def validate(
    model: Denoiser, data: dict[str, Tensor], settings: DenoiserTraining, device: str
) -> dict[str, float]:
    """Loss per grid on training and on held-out latents, the same noise for both."""
    model.eval()
    result = {}
    for prefix in ("", "held_"):
        for grid in (4, 2, 1):
            generator = torch.Generator(device).manual_seed(1)
            sampler = make_sampler(data, prefix, settings, generator, device)
            count = min(len(sampler.latents), 4 * settings.batch_size)
            parts = torch.arange(count, device=device).split(settings.batch_size)
            losses = [velocity_loss(model, sampler, grid, part) for part in parts]
            result[f"{prefix or 'train_'}loss_{grid}x{grid}"] = torch.stack(losses).mean().item()
    return result


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
