"""Painting: from noise to a picture, block by block.

Three orders share one denoiser. `parallel` takes all blocks down the noise levels in step, so that
each sees the others in its halo and on the canvas. `sequential` finishes a block before it starts
the next one. `independent`, as published, shows a block nothing but its neighbors' blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rissole.blocks import blend, crop_blocks, inner, per_cell, stitch
from rissole.config import Recipe, RissoleError
from rissole.models.interface import Aims, BlockDenoiser, State
from rissole.models.scheduler import Scheduler, levels_of, prediction_of, started
from rissole.noise import normal

# guidance acts between these noise levels; elsewhere it costs variety or does nothing
# (arXiv 2404.07724)
GUIDANCE_INTERVAL = (0.25, 0.85)


@dataclass(frozen=True)
class Plan:
    """What is to be painted: B pictures at once, or some of their blocks anew.

    Attributes:
        noise: (B, C, S, S), standard normal; a block starts from its crop.
        features: encoded neighbors of the B pictures.
        visible: bool (B, g, g, K), which neighbors each block may see.
        guidance_scale: 1 is unguided; above, a picture is led away from what the network would
            paint knowing less (arXiv 2406.02507); 0 paints as if there were no neighbors.
        num_inference_steps: of each block.
        order: "parallel", "sequential" or "independent".
        init: (B, C, S, S) clean canvas whose other blocks are kept.
        blocks: (row, col) of the blocks to repaint; none means all.
        strength: (B, g, g), how much each block follows its neighbors: from 0, as usual, to 1;
            for networks that were trained to be told, see `told_strength`.
        usual: bool like `visible`, which neighbors blocks with some of their own would see without.
        follow: how much those blocks are led away from what they would be without: 1 not at all,
            above they follow their own neighbors more, below less.
    """

    noise: Tensor
    features: Any
    visible: Tensor
    guidance_scale: float
    num_inference_steps: int
    order: str = "parallel"
    init: Tensor | None = None
    blocks: Sequence[tuple[int, int]] = ()
    strength: Tensor | None = None
    usual: Tensor | None = None
    follow: float = 1.0


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
        network_calls: evaluations of the denoiser so far; a guided step takes two, but one
            of a network that answers for whole steps; blocks that follow take one more.
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
    model: BlockDenoiser,
    scheduler: Scheduler,
    plan: Plan,
    lock: contextlib.AbstractContextManager | None = None,
) -> Iterator[PaintStep]:
    """Paints a plan and yields after each step; `lock` is held while the network computes."""
    grid, scale, total = plan.visible.shape[1], plan.guidance_scale, plan.num_inference_steps
    chosen = [row * grid + col for row, col in plan.blocks] or list(range(grid**2))
    groups = [[block] for block in chosen] if plan.order == "sequential" else [chosen]
    done, network = ~mask_of(chosen, grid), _Network(model, plan, lock)
    canvas = torch.zeros_like(plan.noise) if plan.init is None else plan.init
    predicted = prediction_of(scheduler)

    def denoise(noisy: Tensor, time: float, end: float, group: list[int]) -> Tensor:
        """What the scheduler asks for: (B, C, S, S), right on the group's blocks."""
        state = network.state(noisy, time, end, group, done)
        if scale == 0:
            return network(state, plan.visible & False, group)
        seeing = network(state, plan.visible, group)
        if model.flow_map or not is_guided(time, scale):
            return seeing
        blind = network.blind(state, group)
        return blind + scale * (seeing - blind)

    for number, group in enumerate(groups, start=1):
        solver = started(scheduler, total, plan.noise.device, model.flow_map)
        painting, levels = mask_of(group, grid), levels_of(solver)
        active = per_cell(painting, canvas.shape[-1]).to(canvas.device)
        sample = torch.where(active, plan.noise, canvas)
        ends = [*(level.time for level in levels[1:]), 0.0]
        way = zip(solver.timesteps, levels, ends, strict=True)
        for step, (timestep, level, end) in enumerate(way, start=1):
            answer = denoise(sample, level.time, end, group)
            estimate = torch.where(active, predicted.clean(answer, sample, level), canvas)
            stepped = solver.step(answer, timestep, sample).prev_sample
            sample = torch.where(active, stepped, canvas)
            if step == total:
                done, estimate = done | painting, sample
            position = divmod(group[0], grid) if plan.order == "sequential" else None
            yield PaintStep(
                *(position, number, len(groups), step, total, estimate),
                *(done, painting, network.attention, network.calls),
            )
        canvas = sample


class _Network:
    """The denoiser on whole canvases; counts its evaluations and whom the cells listen to."""

    def __init__(
        self, model: BlockDenoiser, plan: Plan, lock: contextlib.AbstractContextManager | None
    ):
        self.model, self.plan, self.lock = model, plan, lock or contextlib.nullcontext()
        self.grid, self.halo, self.calls = plan.visible.shape[1], model.config.halo, 0
        size, neighbors = plan.noise.shape[-1] // 2, plan.visible.shape[-1]
        device = plan.noise.device
        self._led = led_blocks(plan)
        self._shares = torch.zeros(len(plan.noise), neighbors, size, size, device=device)
        self._times = torch.zeros(size, size, device=device)

    @property
    def attention(self) -> Tensor:
        """Mean share of each neighbor per cell, (B, K, S/2, S/2)."""
        return self._shares / self._times.clamp(min=1)

    def state(
        self, noisy: Tensor, time: float, end: float, group: list[int], done: Tensor
    ) -> State:
        """The canvas as the network sees it while a group of blocks is painted."""
        b, painting = len(noisy), mask_of(group, self.grid)
        levels = torch.where(painting, time, torch.where(done, 0.0, 1.0))
        ends = torch.where(painting, end, levels)
        levels, ends, present = (
            of_block.expand(b, -1, -1).to(noisy.device)
            for of_block in (levels, ends, done | painting)
        )
        context = torch.full((b,), self.plan.order != "independent", device=noisy.device)
        guidance = torch.full((b,), max(1.0, self.plan.guidance_scale), device=noisy.device)
        aims = Aims(ends, guidance, self.plan.strength)
        dtype = next(self.model.parameters()).dtype
        return State(noisy.to(dtype), levels, present, context, aims=aims)

    def __call__(
        self, state: State, visible: Tensor, group: list[int], listen: bool = True
    ) -> Tensor:
        """Answers (B, C, S, S) from the windows of a group of blocks."""
        index = torch.tensor(group, device=visible.device)
        windows, share = self._evaluate(state, visible, index.expand(len(visible), -1))
        if visible is self.plan.visible:
            windows = self._followed(windows, state, group)
        if listen:
            share = inner(share.float(), self.grid, self.halo // 2)
            self._shares += on_canvas(share, group, self.grid)
            painting = per_cell(mask_of(group, self.grid), len(self._times))
            self._times += painting.to(self._times.device)
        if state.context[0]:
            return blend(windows, index, self.grid, self.halo)
        return on_canvas(inner(windows, self.grid, self.halo), group, self.grid)

    def _followed(self, windows: Tensor, state: State, group: list[int]) -> Tensor:
        """Windows (B, n, C, w, w) of a group, of which some are led on toward their neighbors.

        Guidance for single blocks: away from what the picture's neighbors would make of them. The
        windows beside them fade in as ever, so that no border shows.
        """
        led = [number for number in group if number in self._led]
        if not led or self.plan.usual is None:
            return windows
        index = torch.tensor(led, device=windows.device).expand(len(windows), -1)
        state = state._replace(aims=state.aims._replace(strength=None))
        less, _ = self._evaluate(state, self.plan.usual, index)
        places = [group.index(number) for number in led]
        followed = windows.clone()
        followed[:, places] = less + self.plan.follow * (windows[:, places] - less)
        return followed

    def blind(self, state: State, group: list[int]) -> Tensor:
        """What the same network would do if it knew less: (B, C, S, S).

        Where all blocks are at one level it takes the canvas for one block, and sees neither a
        coarse view of it nor neighbors: no border of blocks can show in the difference. Elsewhere
        it lacks the neighbors alone.
        """
        nobody, state = self.plan.visible & False, state._replace(aims=Aims())
        if len(group) < self.grid**2 or not state.context.any():
            return self(state, nobody, group, listen=False)
        canvas, levels, present, context = state[:4]
        whole = State(canvas, levels[:, :1, :1], present[:, :1, :1], context & False)
        index = torch.zeros(len(canvas), 1, dtype=torch.long, device=canvas.device)
        windows, _ = self._evaluate(whole, nobody[:, :1, :1], index)
        return inner(windows, 1, self.halo)[:, 0]

    def _evaluate(self, state: State, visible: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """One evaluation: windows (B, n, C, w, w) and attention."""
        self.calls += 1
        with self.lock, torch.inference_mode():
            windows, share = self.model(state, self.plan.features, visible, index, weights=True)
        windows = windows.float()
        if not torch.isfinite(windows).all():
            raise RissoleError("the network returned numbers that are not finite")
        return windows, share


def is_guided(time: float, guidance_scale: float) -> bool:
    """Whether a step at this noise level takes a second, blind evaluation."""
    return guidance_scale not in (0, 1) and GUIDANCE_INTERVAL[0] <= time <= GUIDANCE_INTERVAL[1]


def network_calls(scheduler: Scheduler, steps: int, guidance_scale: float, groups: int) -> int:
    """Evaluations for one picture, whose blocks are painted in so many groups, one upon another."""
    levels = levels_of(started(scheduler, steps))
    return groups * (steps + sum(is_guided(level.time, guidance_scale) for level in levels))


def led_blocks(plan: Plan) -> list[int]:
    """Raster numbers of the blocks that a plan leads on toward neighbors of their own."""
    if plan.usual is None or plan.follow == 1:
        return []
    own = (plan.visible != plan.usual).any(-1).any(0).flatten()
    return own.nonzero().flatten().tolist()


def mask_of(group: Sequence[int], grid: int) -> Tensor:
    """bool (g, g), True for the blocks of these raster numbers."""
    mask = torch.zeros(grid * grid, dtype=torch.bool)
    mask[list(group)] = True
    return mask.view(grid, grid)


def on_canvas(blocks: Tensor, group: Sequence[int], grid: int) -> Tensor:
    """Lays the blocks (B, n, C, m, m) of a group on an empty canvas (B, C, S, S)."""
    b, _, c, m, _ = blocks.shape
    tiles = blocks.new_zeros(b, grid**2, c, m, m)
    tiles[:, group] = blocks
    return stitch(tiles, grid)


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
    return normal(seed, shape)


def visible_neighbors(recipe: Recipe, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The neighbors each block listens to, and those of the picture: bool (1, g, g, len(ids)) each.

    At strength 0 both are the same.
    """
    usual = torch.tensor([i in recipe.neighbors for i in ids]).repeat(recipe.grid, recipe.grid, 1)
    visible = usual.clone()
    for row, col, own in recipe.block_neighbors if recipe.strength else ():
        visible[row, col] = torch.tensor([i in own for i in ids])
    return visible[None], usual[None]


def told_strength(strength: float, visible: Tensor, usual: Tensor) -> Tensor:
    """What networks are told that were trained to follow neighbors: (B, g, g), from 0 to 1.

    Only blocks with neighbors of their own follow; beyond 1 they are led on, see `Plan.follow`.

    Args:
        strength: of the recipe.
        visible, usual: what `visible_neighbors` returns.
    """
    return (visible != usual).any(-1).float() * min(strength, 1.0)
