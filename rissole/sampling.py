"""Painting: from noise to a picture, block by block.

Three orders share one denoiser. `parallel` takes all blocks down the noise levels in step, so that
each sees the others in its halo and on the canvas. `sequential` finishes a block before it starts
the next one. `independent`, as published, shows a block nothing but its neighbors' blocks.
Schedulers come from `diffusers`, made anew for each run (they keep state).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from rissole.blocks import blend, crop_blocks, inner, per_cell, stitch
from rissole.config import Recipe, RissoleError
from rissole.models.denoiser import Denoiser, NeighborFeatures, State

# guidance acts between these noise levels; elsewhere it costs variety or does nothing
# (arXiv 2404.07724)
GUIDED = (0.25, 0.85)


@dataclass(frozen=True)
class Conditions:
    """What guides a run.

    Attributes:
        features: encoded neighbors of the B pictures.
        visible: bool (B, g, g, K), which neighbors each block may see.
        guidance_scale: 1 is unguided; above, a picture is led away from what the network would
            paint knowing less (arXiv 2406.02507); 0 paints as if there were no neighbors.
    """

    features: NeighborFeatures
    visible: Tensor
    guidance_scale: float


@dataclass(frozen=True)
class PaintStep:
    """One denoising step.

    Attributes:
        position: block being painted, None when all are.
        index, num_blocks: "block `index` of `num_blocks`".
        step, total_steps: within the block.
        estimate: (B, C, S, S), the clean canvas as far as it can be told; at last the result.
        done, active: bool (g, g).
        attention: (B, K, S/2, S/2), mean share of each neighbor on each cell so far; 0 where
            nothing is painted yet.
        network_calls: evaluations of the denoiser so far; a guided step takes two.
    """

    position: tuple[int, int] | None
    index: int
    num_blocks: int
    step: int
    total_steps: int
    estimate: Tensor
    done: Tensor
    active: Tensor
    attention: Tensor
    network_calls: int

    @property
    def is_last(self) -> bool:
        """Whether the picture is finished."""
        return self.index == self.num_blocks and self.step == self.total_steps


def paint(
    model: Denoiser,
    scheduler: SchedulerMixin,
    noise: Tensor,
    conditions: Conditions,
    *,
    order: str,
    num_inference_steps: int,
    init: Tensor | None = None,
    blocks: Sequence[tuple[int, int]] = (),
    lock: contextlib.AbstractContextManager | None = None,
) -> Iterator[PaintStep]:
    """Paints B pictures at once, or repaints some of their blocks.

    Args:
        noise: (B, C, S, S), standard normal; a block starts from its crop.
        order: "parallel", "sequential" or "independent".
        init: (B, C, S, S) clean canvas whose other blocks are kept.
        blocks: the blocks to repaint; none means all.
        lock: held during each evaluation of the network.

    Yields:
        A step after each evaluation; stop by closing the generator.

    Raises:
        RissoleError: when the network returns numbers that are not finite.
    """
    run = _Run(model, noise, conditions, lock or contextlib.nullcontext())
    chosen = [r * run.grid + c for r, c in blocks] or list(range(run.grid**2))
    start = torch.zeros_like(noise) if init is None else init
    groups = [[b] for b in chosen] if order == "sequential" else [chosen]
    done = torch.ones(run.grid**2, dtype=torch.bool)
    done[chosen] = False
    canvas = start
    for number, group in enumerate(groups, start=1):
        steps = run.finish(scheduler, canvas, done, group, num_inference_steps, order)
        for step, (canvas, estimate) in enumerate(steps, start=1):
            if step == num_inference_steps:
                done[group] = True
            alone = order == "sequential"
            yield PaintStep(
                position=divmod(group[0], run.grid) if alone else None,
                index=number,
                num_blocks=len(groups),
                step=step,
                total_steps=num_inference_steps,
                estimate=canvas if done[group].all() else estimate,
                done=done.view(run.grid, run.grid).clone(),
                active=_mask(group, run.grid),
                attention=run.attention(),
                network_calls=run.calls,
            )


class _Run:
    """State of one run: the model, what guides it, and what has been counted."""

    def __init__(
        self,
        model: Denoiser,
        noise: Tensor,
        conditions: Conditions,
        lock: contextlib.AbstractContextManager,
    ):
        self.model, self.noise, self.conditions, self.lock = model, noise, conditions, lock
        self.grid = conditions.visible.shape[1]
        self.dtype = next(model.parameters()).dtype
        size, neighbors = noise.shape[-1] // 2, conditions.visible.shape[-1]
        self.listened = torch.zeros(len(noise), neighbors, size, size, device=noise.device)
        self.times = torch.zeros(size, size, device=noise.device)
        self.calls = 0

    def finish(
        self,
        scheduler: SchedulerMixin,
        canvas: Tensor,
        done: Tensor,
        group: list[int],
        steps: int,
        order: str,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Takes one group of blocks from noise to clean; yields (canvas, estimate) per step."""
        scheduler = type(scheduler).from_config(scheduler.config)
        set_levels(scheduler, steps, self.noise.device)
        active = _cells(group, self.grid, self.noise)
        present = done | _mask(group, self.grid).flatten()
        sample = torch.where(active, self.noise, canvas)
        for i, timestep in enumerate(scheduler.timesteps):
            level = float(scheduler.sigmas[i])
            state = self._state(sample, group, present, level, order)
            velocity = self._velocity(state, group, level)
            estimate = torch.where(active, sample - level * velocity, canvas)
            stepped = scheduler.step(velocity, timestep, sample).prev_sample
            sample = torch.where(active, stepped, canvas)
            yield sample, estimate

    def attention(self) -> Tensor:
        """Mean share of each neighbor per cell."""
        return self.listened / self.times.clamp(min=1)

    def _state(
        self, sample: Tensor, group: list[int], present: Tensor, level: float, order: str
    ) -> State:
        b, g = len(sample), self.grid
        levels = torch.ones(g * g)
        levels[present] = 0.0
        levels[group] = level
        context = torch.full((b,), order != "independent", device=sample.device)
        spread = (t.view(1, g, g).expand(b, -1, -1).to(sample.device) for t in (levels, present))
        return State(sample.to(self.dtype), *spread, context)

    def _velocity(self, state: State, group: list[int], level: float) -> Tensor:
        """The guided velocity (B, C, S, S), right on the group's blocks."""
        scale, visible = self.conditions.guidance_scale, self.conditions.visible
        if not scale:
            return self._evaluate(state, visible & False, group)
        seeing = self._evaluate(state, visible, group)
        if not is_guided(level, scale):
            return seeing
        blind = self._blind(state, group)
        return blind + scale * (seeing - blind)

    def _blind(self, state: State, group: list[int]) -> Tensor:
        """What the same network would do if it knew less: (B, C, S, S).

        Where all blocks are at one level it takes the canvas for one block, and sees neither a
        coarse view of it nor neighbors: no border of blocks can show in the difference. Elsewhere
        it lacks the neighbors alone.
        """
        visible = self.conditions.visible & False
        if len(group) < self.grid**2 or not state.context.any():
            return self._evaluate(state, visible, group, listen=False)
        whole = State(
            state.canvas, state.levels[:, :1, :1], state.present[:, :1, :1], state.context & False
        )
        index = torch.zeros(len(state.canvas), 1, dtype=torch.long, device=state.canvas.device)
        windows, _ = self._call(whole, visible[:, :1, :1], index)
        return inner(windows, 1, self.model.config.halo)[:, 0]

    def _evaluate(
        self, state: State, visible: Tensor, group: list[int], listen: bool = True
    ) -> Tensor:
        """Velocities (B, C, S, S) from the windows of a group of blocks."""
        index, halo = torch.tensor(group, device=state.canvas.device), self.model.config.halo
        windows, share = self._call(state, visible, index.expand(len(state.canvas), -1))
        if listen:
            self._listen(share, group)
        if state.context[0]:
            return blend(windows, index, self.grid, halo)
        return self._place(inner(windows, self.grid, halo), group)

    def _call(self, state: State, visible: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """One evaluation of the network: windows (B, n, C, w, w) and attention."""
        self.calls += 1
        with self.lock, torch.inference_mode():
            windows, share = self.model(
                state, self.conditions.features, visible, index, weights=True
            )
        windows = windows.float()
        if not torch.isfinite(windows).all():
            raise RissoleError("the network returned numbers that are not finite")
        return windows, share

    def _listen(self, share: Tensor, group: list[int]) -> None:
        share = inner(share.float(), self.grid, self.model.config.halo // 2)
        self.listened += self._place(share, group)
        self.times += _cells(group, self.grid, self.listened)

    def _place(self, blocks: Tensor, group: list[int]) -> Tensor:
        """Lays the group's blocks (B, n, ...) on an empty canvas."""
        b, _, c, m, _ = blocks.shape
        tiles = blocks.new_zeros(b, self.grid**2, c, m, m)
        tiles[:, group] = blocks
        return stitch(tiles, self.grid)


def is_guided(level: float, guidance_scale: float) -> bool:
    """Whether a step at this noise level takes a second, blind evaluation."""
    return guidance_scale not in (0, 1) and GUIDED[0] <= level <= GUIDED[1]


def set_levels(
    scheduler: SchedulerMixin, steps: int, device: torch.device | str | None = None
) -> None:
    """Spaces the noise levels of a flow scheduler: small steps at both ends, smaller at the clean.

    Near pure noise the neighbors decide at once what the picture will be; near the end fine texture
    forms. Other schedulers keep their own spacing.
    """
    scheduler.set_timesteps(steps, device=device)
    if not getattr(scheduler.config, "use_flow_sigmas", False):
        return
    line = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    levels = line - 0.4 * torch.sin(2 * math.pi * line) / (2 * math.pi)
    levels = levels * 0.75 / (1 - 0.25 * levels)
    scheduler.sigmas = levels.float()
    scheduler.timesteps = (1000 * levels[:-1]).float().to(device)


def _mask(group: list[int], grid: int) -> Tensor:
    mask = torch.zeros(grid * grid, dtype=torch.bool)
    mask[group] = True
    return mask.view(grid, grid)


def _cells(group: list[int], grid: int, like: Tensor) -> Tensor:
    return per_cell(_mask(group, grid), like.shape[-1]).to(like.device)


def block_shares(attention: Tensor, grid: int) -> Tensor:
    """Attention per block (B, g, g, K), each row of shares adding up to 1.

    Blocks that are not painted yet, or listened to nobody, get zeros.
    """
    blocks = crop_blocks(attention, grid).mean((-2, -1))
    total = blocks.sum(-1, keepdim=True)
    shares = torch.where(total > 0, blocks / total.clamp(min=1e-12), torch.zeros_like(blocks))
    return shares.unflatten(1, (grid, grid))


def canvas_noise(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise (C, S, S) of a seed, the same on every device, order and grid."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def visible_neighbors(recipe: Recipe, ids: Sequence[int]) -> Tensor:
    """bool (1, g, g, len(ids)): the neighbors each block listens to."""
    visible = torch.tensor([i in recipe.neighbors for i in ids])
    visible = visible.repeat(recipe.grid, recipe.grid, 1)
    for row, col, own in recipe.block_neighbors:
        visible[row, col] = torch.tensor([i in own for i in ids])
    return visible[None]
