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

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rissole.blocks import crop_windows, inner, per_cell
from rissole.config import RissoleError


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the network.

    Attributes:
        latent_channels: channels C of the canvas.
        latent_size: side S of the canvas, in cells.
        halo: cells of surroundings on every side of a block; a multiple of 2.
        channels: width of the block network at full and at half resolution.
        canvas_channels: width of the canvas encoder at a half and at a quarter of the resolution.
        canvas_layers: residual + attention layers at the quarter resolution.
        block_layers: residual blocks per level, on the way down and on the way up.
        head_channels: width of one attention head.
        dropout: probability, in training only.
    """

    latent_channels: int = 4
    latent_size: int = 32
    halo: int = 4
    channels: tuple[int, int] = (64, 192)
    canvas_channels: tuple[int, int] = (96, 192)
    canvas_layers: int = 4
    block_layers: int = 2
    head_channels: int = 32
    dropout: float = 0.1


class State(NamedTuple):
    """What is on the canvas.

    Attributes:
        canvas: (B, C, S, S) latents; each block noisy at its own level, clean, or anything if absent.
        levels: (B, g, g) noise level of each block, 0 clean to 1 pure noise.
        present: (B, g, g) bool, False where nothing is painted or started yet.
        context: (B,) bool, False for blocks that see neither halo nor canvas ("independent").
    """

    canvas: Tensor
    levels: Tensor
    present: Tensor
    context: Tensor


class NeighborFeatures(NamedTuple):
    """Encoded neighbors: `fine` (B, K, C1, S/2, S/2) and `coarse` (B, K, C2, S/4, S/4)."""

    fine: Tensor
    coarse: Tensor

    def repeat(self, times: int) -> NeighborFeatures:
        """The same features for a batch `times` as long."""
        return NeighborFeatures(*(f.repeat(times, 1, 1, 1, 1) for f in self))


def fourier(values: Tensor, channels: int, top: float = 1000.0) -> Tensor:
    """Sine and cosine features of values in [0, 1]: (...,) to (..., channels)."""
    rates = torch.exp(torch.linspace(0, math.log(top), channels // 2, device=values.device))
    angles = values.float()[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def coordinates(size: int) -> Tensor:
    """Where a cell lies on the canvas: (10, size, size), plain and as waves."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    waves = [f(math.pi * r * v) for r in (1, 2) for v in (y, x) for f in (torch.sin, torch.cos)]
    return torch.stack([y, x, *waves])


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization with groups of 16 channels."""
    return nn.GroupNorm(channels // 16, channels)


class ResBlock(nn.Module):
    """Two convolutions, modulated by an embedding (arXiv 2105.05233, figure of AdaGN).

    The embedding is one vector per sample (N, E), or one per cell (N, h, w, E).
    """

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * c_out)
        self.norm2, self.conv2 = group_norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, c_in, h, w) to (N, c_out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        change = self.modulate(embedding)
        change = change[:, :, None, None] if change.dim() == 2 else change.permute(0, 3, 1, 2)
        scale, shift = change.chunk(2, dim=1)
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(self.dropout(h))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, weights: bool = False):
    """Multi-head attention; on request with its weights, averaged over the heads.

    Args:
        q: (N, heads, Q, d); k, v: (N, heads, K, d).
        mask: bool, broadcastable to (N, heads, Q, K); True where a query may look.

    Returns:
        (N, heads, Q, d) and either None or weights (N, Q, K).
    """
    if not weights:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
    logits = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    share = logits.softmax(-1)
    return share.to(v.dtype) @ v, share.mean(1)


class SelfAttention(nn.Module):
    """Attention among the cells of a map."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.heads = channels // head_channels
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h, w)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for t in self.qkv(tokens).chunk(3, dim=-1))  # fmt: skip
        mixed, _ = attend(q, k, v, None)
        out = self.out(mixed.transpose(1, 2).flatten(2))
        return x + out.transpose(1, 2).reshape(x.shape)


class NeighborAttention(nn.Module):
    """Cross-attention from cells to the tokens of all neighbors, a set.

    No index tells the neighbors apart, so that their order has no effect and any number will do. A
    learned null token stands among them: who is shown no neighbor listens to it alone.
    """

    def __init__(self, channels: int, neighbor_channels: int, head_channels: int):
        super().__init__()
        self.heads = channels // head_channels
        self.norm, self.norm_tokens = group_norm(channels), nn.LayerNorm(neighbor_channels)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(neighbor_channels, 2 * channels)
        self.null = nn.Parameter(torch.randn(2 * channels) * 0.02)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Tensor, tokens: Tensor, visible: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Adds what the cells find in the neighbors.

        Args:
            x: (N, C, h, w).
            tokens: (N, K, T, C'), T tokens of each neighbor.
            visible: bool (N, Q, K), Q = h * w or 1: the neighbors a cell may look at.

        Returns:
            (N, C, h, w), and on request the weight of each neighbor (N, h * w, K).
        """
        n, k, t, _ = tokens.shape
        q = self._heads(self.q(self.norm(x).flatten(2).transpose(1, 2)))
        kv = self.kv(self.norm_tokens(tokens)).flatten(1, 2)
        kv = torch.cat([self.null.to(kv.dtype).expand(n, 1, -1), kv], dim=1)
        key, value = (self._heads(h) for h in kv.chunk(2, dim=-1))
        seen = F.pad(visible.repeat_interleave(t, -1), (1, 0), value=True)[:, None]
        mixed, share = attend(q, key, value, seen, weights)
        out = self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)
        return x + out, None if share is None else share[..., 1:].unflatten(-1, (k, t)).sum(-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AlignedAttention(nn.Module):
    """Every cell weighs the neighbors' features at its own place: K keys and a null per cell."""

    def __init__(self, channels: int, neighbor_channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, neighbor_channels, 1)
        self.key = nn.Conv2d(neighbor_channels, neighbor_channels, 1)
        self.null = nn.Parameter(torch.zeros(neighbor_channels))
        self.out = nn.Conv2d(neighbor_channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the chosen features.

        Args:
            x: (N, C, h, w).
            features: (N, K, C', h, w).
            visible: bool (N, K).

        Returns:
            (N, C, h, w) and the weight of each neighbor (N, K, h, w).
        """
        q = self.q(self.norm(x))
        keys = self.key(features.flatten(0, 1)).view_as(features)
        logits = torch.einsum("nchw,nkchw->nkhw", q, keys).float() / math.sqrt(q.shape[1])
        logits = logits.masked_fill(~visible[:, :, None, None], -torch.inf)
        share = F.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(1)[:, 1:]  # the null's logit is 0
        missing = (1 - share.sum(1, keepdim=True)).to(x.dtype)
        mixed = torch.einsum("nkhw,nkchw->nchw", share.to(x.dtype), features)
        mixed = mixed + missing * self.null.to(x.dtype)[:, None, None]
        return x + self.out(mixed), share


class NeighborEncoder(nn.Module):
    """Encodes each neighbor's whole latent once; blocks crop their tokens from its maps."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        fine, coarse = config.canvas_channels
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)
        self.stem = nn.Conv2d(config.latent_channels + 10, fine, 4, stride=2, padding=1)
        self.fine = PlainBlock(fine)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = PlainBlock(coarse)

    def forward(self, neighbors: Tensor) -> NeighborFeatures:
        """Features of neighbors' clean latents (B, K, C, S, S)."""
        b, k = neighbors.shape[:2]
        x = neighbors.flatten(0, 1)
        where = self.where.to(x.dtype).expand(len(x), -1, -1, -1)
        fine = self.fine(self.stem(torch.cat([x, where], dim=1)))
        coarse = self.coarse(self.down(fine))
        return NeighborFeatures(fine.unflatten(0, (b, k)), coarse.unflatten(0, (b, k)))


class PlainBlock(nn.Module):
    """A residual block without an embedding."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h, w)."""
        return x + self.layers(x)


class CanvasEncoder(nn.Module):
    """A coarse view of the whole canvas, so that eyes match across blocks.

    Runs once per step for all blocks. Every cell is modulated by its own block's noise level.
    """

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
        tokens = features.coarse.flatten(-2).transpose(-2, -1)
        skip = self.enter(self.stem(x), half)
        h = self.down(skip)
        for i, (block, mix) in enumerate(zip(self.blocks, self.mixers, strict=True)):
            h = mix(block(h, quarter))
            if i % 2:  # every second layer listens to the neighbors
                h, _ = self.listeners[i // 2](h, tokens, seen)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
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
        self.view = nn.Conv2d(c1, coarse, 1)
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
        self.norm = group_norm(fine)
        self.head = nn.Conv2d(fine, config.latent_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        view: Tensor,
        features: NeighborFeatures,
        visible: Tensor,
        weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Velocities of windows.

        Args:
            x: (N, C + 12, w, w): latents, levels, presence and coordinates.
            embedding: (N, E).
            view: (N, C1, w/2, w/2), the window's crop of the canvas features.
            features: the window's crops, (N, K, ...).
            visible: bool (N, K).
            weights: also return how much each cell listened to each neighbor.

        Returns:
            (N, C, w, w) and, on request, (N, K, w/2, w/2).
        """
        h, skips = self.stem(x), []
        for block in self.fine_down:
            h = block(h, embedding)
            skips.append(h)
        h = self.down(h) + self.view(view)
        for block in self.coarse_down:
            h = block(h, embedding)
        h, share = self.aligned(h, features.fine, visible)
        tokens = features.coarse.flatten(-2).transpose(-2, -1)
        h, listened = self.listen(h, tokens, visible[:, None], weights)
        h = self.mix(h)
        for block in self.coarse_up:
            h = block(h, embedding)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        for block in self.fine_up:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        if listened is not None:
            listened = listened.transpose(1, 2).reshape(share.shape)
            share = (share + listened) / 2
        return self.head(F.silu(self.norm(h))), share if weights else None


class Denoiser(nn.Module):
    """The whole network: neighbor encoder, canvas encoder and block network."""

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = config = config or DenoiserConfig()
        width = 192
        self.level = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.extent = nn.Linear(32, width)
        self.neighbors = NeighborEncoder(config)
        self.canvas = CanvasEncoder(config, width)
        self.block = BlockNetwork(config, width)
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)

    def encode_neighbors(self, latents: Tensor) -> NeighborFeatures:
        """Encodes neighbors (B, K, C, S, S), once per picture."""
        return self.neighbors(latents)

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
        embedding = self._embedding(state.levels, dtype)
        view = self.canvas(state, embedding, features, visible)
        view = view * state.context[:, None, None, None].to(dtype)
        grid, halo = state.levels.shape[-1], self.config.halo

        def take(canvas: Tensor, scale: int = 1) -> Tensor:
            return _gather(crop_windows(canvas, grid, halo // scale), index).flatten(0, 1)

        crops = NeighborFeatures(
            _gather_set(features.fine, grid, halo // 2, index),
            _gather_set(features.coarse, grid, halo // 4, index),
        )
        own = _gather(embedding.flatten(1, 2), index).flatten(0, 1)
        seen = _gather(visible.flatten(1, 2), index).flatten(0, 1)
        x = self._window_input(state, take)
        velocity, share = self.block(x, own, take(view, 2), crops, seen, weights)
        velocity = velocity.unflatten(0, (b, n))
        return velocity, None if share is None else share.unflatten(0, (b, n))

    def _embedding(self, levels: Tensor, dtype: torch.dtype) -> Tensor:
        extent = torch.tensor(1 / levels.shape[-1], device=levels.device)
        size = self.extent(fourier(extent, 32, 10.0).to(dtype))
        return F.silu(self.level(fourier(levels, 128).to(dtype)) + size)

    def _window_input(self, state: State, take) -> Tensor:
        size, grid = state.canvas.shape[-1], state.levels.shape[-1]
        b, dtype = len(state.canvas), state.canvas.dtype
        present = per_cell(state.present, size)[:, None].to(dtype)
        level = per_cell(state.levels, size)[:, None].to(dtype)
        where = self.where.to(dtype).expand(b, -1, -1, -1)
        x = take(torch.cat([state.canvas * present, level * present, present, where], dim=1))
        if grid == 1:
            return x
        alone = torch.zeros(x.shape[-2:], device=x.device, dtype=dtype)
        inner(alone, grid, self.config.halo).fill_(1)
        keep = state.context.repeat_interleave(len(x) // b)[:, None, None].to(dtype)
        keep = torch.maximum(keep, alone)[:, None]  # independent blocks see themselves only
        c = state.canvas.shape[1] + 2
        return torch.cat([x[:, :c] * keep, x[:, c:]], dim=1)

    def save(self, folder: str | Path) -> None:
        """Writes `model.safetensors`, half precision, its config in the metadata."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.to("cpu", torch.float16).contiguous() for k, v in self.state_dict().items()}
        config = json.dumps(asdict(self.config))
        save_file(weights, folder / "model.safetensors", metadata={"config": config})

    @classmethod
    def load(cls, folder: str | Path) -> Denoiser:
        """Reads what `save` wrote, as float32.

        Raises:
            RissoleError: when the file is missing, damaged or of another shape.
        """
        path = Path(folder) / "model.safetensors"
        try:
            with safe_open(path, "pt") as file:
                raw = json.loads(file.metadata()["config"])
            model = cls(DenoiserConfig(**{k: _tuple(v) for k, v in raw.items()}))
            model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise RissoleError(f"no usable denoiser in {path.parent.name}/: {reason}") from error
        return model.eval().requires_grad_(False)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _gather(items: Tensor, index: Tensor) -> Tensor:
    """Picks (B, n, ...) out of (B, g * g, ...) by block numbers (B, n)."""
    rows = torch.arange(len(items), device=items.device)[:, None]
    return items[rows, index]


def _gather_set(features: Tensor, grid: int, halo: int, index: Tensor) -> Tensor:
    """Crops every neighbor's map: (B, K, C, s, s) to (B * n, K, C, w, w)."""
    windows = crop_windows(features, grid, halo)  # (B, K, g * g, C, w, w)
    return _gather(windows.transpose(1, 2), index).flatten(0, 1)
