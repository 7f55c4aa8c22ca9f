"""The block denoiser: one compact network that paints a block from what surrounds it.

Read it from the leaves to the root. For every block the network sees

* its *window*: the noisy block and a halo around it, each cell with its own noise level,
* the *canvas*: a coarse view of the whole picture, encoded once per step for all blocks, and
* the *neighbors*: the matching blocks of k retrieved pictures, a set, encoded once per picture,

and it predicts the flow-matching velocity (arXiv 2209.03003, 2210.02747) of every cell of the
window. With noise level t in [0, 1], a noisy latent is x_t = (1 - t) x_0 + t e and its velocity
is e - x_0. Position is a coordinate, so grids of 1x1, 2x2 and 4x4 blocks share the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rissole.blocks import inner, per_cell, take_windows, window_size
from rissole.config import RissoleError
from rissole.models.asked import Asked
from rissole.models.interface import DENOISERS, USUAL, BlockDenoiser, State
from rissole.models.layers import (
    AlignedAttention,
    CellNorm,
    NeighborAttention,
    PlainBlock,
    ResBlock,
    SelfAttention,
    coordinates,
    fourier,
    recorded,
    upsample,
)
from rissole.models.saving import CLASS, one_line, read_config_of
from rissole.storage.schema import Depth, Share, Width


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the network.

    Attributes:
        latent_channels: channels C of the canvas.
        latent_size: side S of the canvas, in cells; a multiple of 16.
        halo: cells of surroundings on every side of a block; a multiple of 4.
        channels: width of the block network at full and at half resolution.
        canvas_channels: width of the canvas encoder at a half and at a quarter of the resolution.
        canvas_layers: residual + attention layers at the quarter resolution.
        block_layers: residual blocks per level, on the way down and on the way up.
        head_channels: width of one attention head.
        dropout: probability, in training only.
        canvas: whether blocks see the canvas at all; without, they see as far as their halo.
        flow_map: whether it is told where a step ends and how much guidance is wanted: it then
            predicts the mean velocity of the whole step, guided, in one evaluation.
        strength: whether it is told, per block, how much to follow the neighbors.
        augmentation: numbers that tell how a training picture was augmented; 0 takes none.
    """

    latent_channels: Width = 4
    latent_size: Annotated[int, Field(ge=16, le=1024)] = 32
    halo: Annotated[int, Field(ge=0, le=16)] = 4
    channels: tuple[Width, Width] = (64, 192)
    canvas_channels: tuple[Width, Width] = (96, 192)
    canvas_layers: Depth = 4
    block_layers: Depth = 2
    head_channels: Width = 32
    dropout: Share = 0.1
    canvas: bool = True
    flow_map: bool = False
    strength: bool = False
    augmentation: Annotated[int, Field(ge=0, le=64)] = 0

    def __post_init__(self) -> None:
        # blocks of a 4x4 grid, and halos, must be whole at a quarter of the resolution
        if self.latent_size % 16 or self.halo % 4:
            raise RissoleError("latent_size must be a multiple of 16, and halo one of 4")
        if self.channels[1] % self.head_channels or self.canvas_channels[1] % self.head_channels:
            raise RissoleError("head_channels must divide the widths at the coarse resolution")


class NeighborFeatures(NamedTuple):
    """Encoded neighbors, projected to keys and values for whoever attends to them.

    All of it is independent of the step: it is computed once per picture, and blocks crop it.

    Attributes:
        aligned: (B, S/2, S/2, K, 2 * C1) for the block network's attention cell by cell.
        tokens: (B, S/4, S/4, K, 2 * C) for the block network's attention to whole blocks.
        canvas: (B, layers, S/4 * S/4, K, 2 * C2) for the canvas encoder.
    """

    aligned: Tensor
    tokens: Tensor
    canvas: Tensor


class NeighborEncoder(nn.Module):
    """Encodes each neighbor's whole latent once; blocks crop their tokens from its maps."""

    where: Tensor

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        fine, coarse = config.canvas_channels
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)
        self.stem = nn.Conv2d(config.latent_channels + 10, fine, 4, stride=2, padding=1)
        self.fine = PlainBlock(fine)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = PlainBlock(coarse)

    def forward(self, neighbors: Tensor) -> tuple[Tensor, Tensor]:
        """Features of clean latents (B, K, C, S, S).

        Returns:
            (B, S/2, S/2, K, C1) and (B, S/4, S/4, K, C2).
        """
        x = neighbors.flatten(0, 1)
        where = self.where.to(x.dtype).expand(x.shape[0], -1, -1, -1)  # `len` would fix the number
        fine = self.fine(self.stem(torch.cat([x, where], dim=1)))
        coarse = self.coarse(self.down(fine))
        split = (f.unflatten(0, neighbors.shape[:2]) for f in (fine, coarse))
        return tuple(f.permute(0, 3, 4, 1, 2) for f in split)


class CanvasEncoder(nn.Module):
    """A coarse view of the whole canvas, so that eyes match across blocks.

    Runs once per step for all blocks. Every cell is modulated by its own block's noise level.
    """

    where: Tensor

    def __init__(self, config: DenoiserConfig, embedding: int):
        super().__init__()
        fine, coarse = config.canvas_channels
        drop, head = config.dropout, config.head_channels
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)
        self.stem = nn.Conv2d(config.latent_channels + 12, fine, 4, stride=2, padding=1)
        self.enter = ResBlock(fine, fine, embedding, drop)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            ResBlock(coarse, coarse, embedding, drop) for _ in range(config.canvas_layers)
        )
        self.mixers = nn.ModuleList(
            SelfAttention(coarse, head) for _ in range(config.canvas_layers)
        )
        self.listeners = nn.ModuleList(
            NeighborAttention(coarse, coarse, head) for _ in range(config.canvas_layers // 2)
        )
        self.up = nn.Conv2d(coarse, fine, 3, padding=1)
        self.leave = ResBlock(2 * fine, fine, embedding, drop)

    def forward(
        self, state: State, embedding: Tensor, features: NeighborFeatures, visible: Tensor
    ) -> Tensor:
        """The canvas features.

        Args:
            embedding: (B, g, g, E) of each block's noise level.
            visible: bool (B, g, g, K), the neighbors of each block.

        Returns:
            (B, C1, S/2, S/2).
        """
        size = state.canvas.shape[-1]
        present = per_cell(state.present, size)[:, None].to(state.canvas.dtype)
        level = per_cell(state.levels, size)[:, None].to(state.canvas.dtype)
        where = self.where.to(present.dtype).expand(len(present), -1, -1, -1)
        x = torch.cat([state.canvas * present, level * present, present, where], dim=1)
        on_cells = embedding.movedim(-1, 1)
        half = per_cell(on_cells, size // 2).movedim(1, -1)
        quarter = per_cell(on_cells, size // 4).movedim(1, -1)
        seen = per_cell(visible.movedim(-1, 1), size // 4).flatten(2).transpose(1, 2)
        skip = self.enter(self.stem(x), half)
        h = self.down(skip)
        for i, (block, mix) in enumerate(zip(self.blocks, self.mixers, strict=True)):
            h = mix(block(h, quarter))
            if i % 2:  # every second layer listens to the neighbors
                h, _ = self.listeners[i // 2](h, features.canvas[:, i // 2], seen)
        h = self.up(upsample(h))
        return self.leave(torch.cat([h, skip], dim=1), half)


class BlockNetwork(nn.Module):
    """A two-level U-Net over windows; it never sees the canvas at full resolution."""

    def __init__(self, config: DenoiserConfig, embedding: int):
        super().__init__()
        (fine, coarse), drop, layers = config.channels, config.dropout, config.block_layers
        c1, c2 = config.canvas_channels
        self.stem = nn.Conv2d(config.latent_channels + 12, fine, 3, padding=1)
        self.fine_down = nn.ModuleList(ResBlock(fine, fine, embedding, drop) for _ in range(layers))
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.view = nn.Linear(c1, coarse)
        self.coarse_down = nn.ModuleList(
            ResBlock(coarse, coarse, embedding, drop) for _ in range(layers)
        )
        self.aligned = AlignedAttention(coarse, c1)
        self.listen = NeighborAttention(coarse, c2, config.head_channels)
        self.mix = SelfAttention(coarse, config.head_channels)
        self.coarse_up = nn.ModuleList(
            ResBlock(coarse, coarse, embedding, drop) for _ in range(layers)
        )
        self.up = nn.Conv2d(coarse, fine, 3, padding=1)
        self.fine_up = nn.ModuleList(
            ResBlock(2 * fine, fine, embedding, drop) for _ in range(layers)
        )
        self.norm = CellNorm(fine)
        self.head = nn.Conv2d(fine, config.latent_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        view: Tensor,
        aligned: Tensor,
        tokens: Tensor,
        visible: Tensor,
        weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Velocities of windows.

        Args:
            x: (N, C + 12, w, w): latents, levels, presence and coordinates.
            embedding: (N, E).
            view: (N, w/2 * w/2, C1), the window's crop of the canvas features.
            aligned: (N, w/2 * w/2, K, 2 * C1), the window's crop of `NeighborFeatures.aligned`.
            tokens: (N, w/4 * w/4, K, 2 * C), its crop of `NeighborFeatures.tokens`.
            visible: bool (N, K).
            weights: also return how much each cell listened to each neighbor.

        Returns:
            (N, C, w, w) and, on request, (N, K, w/2, w/2).
        """
        h, skips = self.stem(x), []
        for block in self.fine_down:
            h = block(h, embedding)
            skips.append(h)
        h = self.down(h)
        h = h + self.view(view).transpose(1, 2).reshape(h.shape)
        for block in self.coarse_down:
            h = block(h, embedding)
        h, share = self.aligned(h, aligned, visible)
        h, listened = self.listen(h, tokens, visible[:, None], weights)
        h = self.mix(h)
        for block in self.coarse_up:
            h = block(h, embedding)
        h = self.up(upsample(h))
        for block in self.fine_up:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        velocity = self.head(F.silu(self.norm(h)))
        if listened is None:
            return velocity, None
        share = (share + listened).transpose(1, 2) / 2
        return velocity, share.unflatten(-1, (x.shape[-2] // 2, x.shape[-1] // 2))


@DENOISERS.register
class Denoiser(BlockDenoiser):
    """The whole network: neighbor encoder, canvas encoder and block network."""

    name = USUAL
    config_class = DenoiserConfig
    config: DenoiserConfig
    where: Tensor

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = config = config or DenoiserConfig()
        width = 192
        self.level = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.extent = nn.Linear(32, width)
        self.asked = None
        if config.flow_map or config.strength or config.augmentation:
            self.asked = Asked(width, config.flow_map, config.strength, config.augmentation)
        self.neighbors = NeighborEncoder(config)
        self.canvas = CanvasEncoder(config, width) if config.canvas else None
        self.block = BlockNetwork(config, width)
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)
        self.to(memory_format=torch.channels_last)  # what the norms, and fast convolutions, want

    def encode_neighbors(self, latents: Tensor) -> NeighborFeatures:
        """Encodes neighbors (B, K, C, S, S), once per picture."""
        return self.project(*self.neighbors(latents))

    def project(self, fine: Tensor, coarse: Tensor) -> NeighborFeatures:
        """What the attentions make of the neighbor encoder's two maps."""
        listeners: Any = self.canvas.listeners if self.canvas else [self.block.listen]
        canvas = torch.stack([one.project(coarse).flatten(1, 2) for one in listeners], dim=1)
        aligned, tokens = self.block.aligned.project(fine), self.block.listen.project(coarse)
        return NeighborFeatures(aligned, tokens, canvas)

    def forward(
        self,
        state: State,
        features: NeighborFeatures,
        visible: Tensor,
        index: Tensor,
        weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Predicts the velocity of every cell in the windows of some blocks.

        Args:
            state: the canvas; its (B, g, g) levels tell the grid.
            features: of K neighbors, `encode_neighbors`.
            visible: bool (B, g, g, K), the neighbors of each block; none visible is unconditional.
            index: (B, n) raster numbers of the blocks to evaluate.
            weights: also return the attention on the neighbors.

        Returns:
            Velocities (B, n, C, w, w), and on request attention (B, n, K, w/2, w/2): per cell, what
            each neighbor weighed; less than 1 in sum where the cell listened to none.
        """
        b, n = index.shape
        dtype = state.canvas.dtype
        embedding = self._embedding(state, dtype)
        view = self._view(state, embedding, features, visible)
        grid, halo = state.levels.shape[-1], self.config.halo
        own, seen = of_blocks(embedding, index), of_blocks(visible, index)
        velocity, share = self.block(
            self._window_input(state, index),
            own,
            take_windows(view.movedim(1, -1), index, grid, halo // 2),
            take_windows(features.aligned, index, grid, halo // 2),
            take_windows(features.tokens, index, grid, halo // 4),
            seen,
            weights,
        )
        velocity = velocity.unflatten(0, (b, n))
        return velocity, None if share is None else share.unflatten(0, (b, n))

    def _view(
        self, state: State, embedding: Tensor, features: NeighborFeatures, visible: Tensor
    ) -> Tensor:
        """Canvas features (B, C1, S/2, S/2); zeros for who may not see the canvas."""
        seen = state.context if state.view is None else state.context & state.view
        # a recorded step cannot ask
        unseen = not self.training and not recorded() and not seen.any()
        if self.canvas is None or unseen:
            b, width, half = len(embedding), self.block.view.in_features, self.where.shape[-1] // 2
            return embedding.new_zeros(b, width, half, half)
        view = self.canvas(state, embedding, features, visible)
        return view * seen[:, None, None, None].to(view.dtype)

    def _embedding(self, state: State, dtype: torch.dtype) -> Tensor:
        levels = state.levels
        extent = torch.full((), 1 / levels.shape[-1], device=levels.device)
        size = self.extent(fourier(extent, 32, 10.0).to(dtype))
        known = self.level(fourier(levels, 128).to(dtype)) + size
        return F.silu(
            known if self.asked is None else known + self.asked(levels, state.aims, dtype)
        )

    def _window_input(self, state: State, index: Tensor) -> Tensor:
        """(B * n, C + 12, w, w): latents, levels, presence and coordinates."""
        size, grid, halo = state.canvas.shape[-1], state.levels.shape[-1], self.config.halo
        b, dtype = len(state.canvas), state.canvas.dtype
        present = per_cell(state.present, size)[:, None].to(dtype)
        level = per_cell(state.levels, size)[:, None].to(dtype)
        where = self.where.to(dtype).expand(b, -1, -1, -1)
        canvas = torch.cat([state.canvas * present, level * present, present, where], dim=1)
        x = take_windows(canvas.movedim(1, -1), index, grid, halo)
        w = window_size(size, grid, halo)
        x = x.unflatten(1, (w, w)).permute(0, 3, 1, 2)
        if grid == 1:
            return x
        alone = torch.zeros(w, w, device=x.device, dtype=dtype)
        inner(alone, grid, halo).fill_(1)
        keep = state.context.repeat_interleave(x.shape[0] // b)[:, None, None].to(dtype)
        keep = torch.maximum(keep, alone)[:, None]  # independent blocks see themselves only
        c = state.canvas.shape[1] + 2
        return torch.cat([x[:, :c] * keep, x[:, c:]], dim=1)


def of_blocks(values: Tensor, index: Tensor) -> Tensor:
    """What some blocks (B, n) have of values (B, g, g, V): (B * n, V)."""
    rows = index[..., None].expand(-1, -1, values.shape[-1])
    return values.flatten(1, 2).gather(1, rows).flatten(0, 1)


def load_denoiser(folder: str | Path) -> BlockDenoiser:
    """A denoiser of any registered class; its file tells which, one without a word is a `Denoiser`.

    Raises:
        RissoleError: when it is missing, damaged or of an unknown class.
    """
    path = Path(folder) / BlockDenoiser.file_name
    with one_line(BlockDenoiser.what, path):
        name = read_config_of(path).get(CLASS, USUAL)
    return DENOISERS[name].load(folder)
