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
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from rissole.blocks import inner, per_cell, take_windows, window_size
from rissole.config import RissoleError
from rissole.storage.files import save_tensors

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


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
    canvas: bool = True

    def __post_init__(self):
        # blocks of a 4x4 grid, and halos, must be whole at a quarter of the resolution
        if self.latent_size % 16 or self.halo % 4:
            raise RissoleError(
                f"latent_size must be a multiple of 16 and halo one of 4, "
                f"not {self.latent_size} and {self.halo}"
            )


class State(NamedTuple):
    """What is on the canvas.

    Attributes:
        canvas: (B, C, S, S) latents; a block is noisy at its own level, clean, or absent.
        levels: (B, g, g) noise level of each block, 0 clean to 1 pure noise.
        present: (B, g, g) bool, False where nothing is painted or started yet.
        context: (B,) bool, False for blocks that see neither halo nor canvas ("independent").
    """

    canvas: Tensor
    levels: Tensor
    present: Tensor
    context: Tensor


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


class CellNorm(nn.LayerNorm):
    """Normalizes the channels of every cell on its own.

    What a cell sees then depends neither on the size of its window nor on what lies beyond the
    canvas. The precision is that of the input: autocast would return float32 and double the memory
    traffic of everything behind it; the statistics are float32 either way.
    """

    def __init__(self, channels: int, affine: bool = True):
        super().__init__(channels, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w), channels last in memory, to the same."""
        affine = (None if p is None else p.to(x.dtype) for p in (self.weight, self.bias))
        with torch.autocast(x.device.type, enabled=False):
            cells = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, *affine, self.eps)
        return cells.permute(0, 3, 1, 2)


def upsample(x: Tensor) -> Tensor:
    """Every cell four times: (N, C, h, w) to (N, C, 2 h, 2 w), channels last in memory."""
    n, c, h, w = x.shape
    cells = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, h, 2, w, 2, c)
    return cells.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two convolutions, modulated by an embedding (arXiv 2105.05233, figure of AdaGN).

    The embedding is one vector per sample (N, E), or one per cell (N, h, w, E).
    """

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float):
        super().__init__()
        self.norm1 = CellNorm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.modulate = nn.Linear(embedding, 2 * c_out)
        self.norm2 = CellNorm(c_out, affine=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, c_in, h, w) to (N, c_out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        change = self.modulate(embedding)
        change = change[:, :, None, None] if change.dim() == 2 else change.permute(0, 3, 1, 2)
        scale, shift = change.chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.conv2(self.dropout(h))


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, weights: bool = False
) -> tuple[Tensor, Tensor | None]:
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
        self.norm = CellNorm(channels)
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
        self.norm, self.norm_tokens = CellNorm(channels), nn.LayerNorm(neighbor_channels)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(neighbor_channels, 2 * channels)
        self.null = nn.Parameter(torch.randn(2 * channels) * 0.02)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def project(self, tokens: Tensor) -> Tensor:
        """Keys and values (..., 2 * C) of neighbors' tokens (..., C')."""
        return self.kv(self.norm_tokens(tokens))

    def forward(
        self, x: Tensor, tokens: Tensor, visible: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Adds what the cells find in the neighbors.

        Args:
            x: (N, C, h, w).
            tokens: (N, T, K, 2 * C), keys and values of T tokens of each neighbor.
            visible: bool (N, Q, K), Q = h * w or 1: the neighbors a cell may look at.

        Returns:
            (N, C, h, w), and on request the weight of each neighbor (N, h * w, K).
        """
        n, t, k, _ = tokens.shape
        q = self._heads(self.q(self.norm(x).flatten(2).transpose(1, 2)))
        null = self.null.to(tokens.dtype).expand(n, 1, -1)
        kv = torch.cat([null, tokens.flatten(1, 2)], dim=1)
        key, value = (self._heads(h) for h in kv.chunk(2, dim=-1))
        seen = F.pad(visible.repeat(1, 1, t), (1, 0), value=True)[:, None]
        mixed, share = attend(q, key, value, seen, weights)
        out = self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)
        return x + out, None if share is None else share[..., 1:].unflatten(-1, (t, k)).sum(-2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AlignedAttention(nn.Module):
    """Every cell weighs the neighbors' features at its own place: K keys and a null per cell."""

    def __init__(self, channels: int, neighbor_channels: int):
        super().__init__()
        self.norm = CellNorm(channels)
        self.q = nn.Linear(channels, neighbor_channels)
        self.key = nn.Linear(neighbor_channels, neighbor_channels)
        self.null = nn.Parameter(torch.zeros(neighbor_channels))
        self.out = nn.Linear(neighbor_channels, channels)
        nn.init.zeros_(self.out.weight)

    def project(self, features: Tensor) -> Tensor:
        """Keys and values (..., 2 * C') of features (..., C'); the values are the features."""
        return torch.cat([self.key(features), features], dim=-1)

    def forward(self, x: Tensor, features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the chosen features.

        Args:
            x: (N, C, h, w).
            features: (N, h * w, K, 2 * C'), from `project`.
            visible: bool (N, K).

        Returns:
            (N, C, h, w) and the weight of each neighbor (N, h * w, K).
        """
        q = self.q(self.norm(x).flatten(2).transpose(1, 2))
        key, value = features.chunk(2, dim=-1)
        # one query meets K keys: products and sums beat a batch of tiny matrix products
        logits = (q[:, :, None] * key).sum(-1).float() / math.sqrt(q.shape[-1])
        logits = logits.masked_fill(~visible[:, None], -torch.inf)
        share = F.pad(logits, (1, 0)).softmax(-1)  # the null's logit is 0
        mixed = (share[..., 1:, None].to(value.dtype) * value).sum(2)
        mixed = mixed + share[..., :1].to(value.dtype) * self.null.to(value.dtype)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape), share[..., 1:]


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

    def forward(self, neighbors: Tensor) -> tuple[Tensor, Tensor]:
        """Features of clean latents (B, K, C, S, S).

        Returns:
            (B, S/2, S/2, K, C1) and (B, S/4, S/4, K, C2).
        """
        x = neighbors.flatten(0, 1)
        where = self.where.to(x.dtype).expand(len(x), -1, -1, -1)
        fine = self.fine(self.stem(torch.cat([x, where], dim=1)))
        coarse = self.coarse(self.down(fine))
        split = (f.unflatten(0, neighbors.shape[:2]) for f in (fine, coarse))
        return tuple(f.permute(0, 3, 4, 1, 2) for f in split)


class PlainBlock(nn.Module):
    """A residual block without an embedding."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            CellNorm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            CellNorm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
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


class SavedNetwork(nn.Module):
    """A network that one safetensors file rebuilds: half-precision weights, config in its metadata.

    A subclass names its dataclass of settings in `config_class` and keeps one as `config`.
    """

    config_class: ClassVar[type]

    def save(self, folder: str | Path) -> None:
        """Writes `model.safetensors`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.to("cpu", torch.float16).contiguous() for k, v in self.state_dict().items()}
        config = json.dumps(asdict(self.config))
        save_tensors(weights, folder / "model.safetensors", metadata={"config": config})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote, as float32.

        Raises:
            RissoleError: when the file is missing, damaged or of another shape.
        """
        path = Path(folder) / "model.safetensors"
        try:
            with safe_open(path, "pt") as file:
                raw = json.loads(file.metadata()["config"])
            raw = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            model = cls(cls.config_class(**raw))
            model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RissoleError(f"no usable denoiser in {path.parent.name}/: {reason}") from error
        return model.eval().requires_grad_(False)


class Denoiser(SavedNetwork):
    """The whole network: neighbor encoder, canvas encoder and block network."""

    config_class = DenoiserConfig

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = config = config or DenoiserConfig()
        width = 192
        self.level = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.extent = nn.Linear(32, width)
        self.neighbors = NeighborEncoder(config)
        self.canvas = CanvasEncoder(config, width) if config.canvas else None
        self.block = BlockNetwork(config, width)
        self.register_buffer("where", coordinates(config.latent_size), persistent=False)
        self.to(memory_format=torch.channels_last)  # what the norms, and fast convolutions, want

    def encode_neighbors(self, latents: Tensor) -> NeighborFeatures:
        """Encodes neighbors (B, K, C, S, S), once per picture."""
        fine, coarse = self.neighbors(latents)
        listeners = self.canvas.listeners if self.canvas else [self.block.listen]
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
        embedding = self._embedding(state.levels, dtype)
        view = self._view(state, embedding, features, visible)
        grid, halo = state.levels.shape[-1], self.config.halo
        own = embedding.flatten(1, 2).take_along_dim(index[..., None], dim=1).flatten(0, 1)
        seen = visible.flatten(1, 2).take_along_dim(index[..., None], dim=1).flatten(0, 1)
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
        unseen = not self.training and not state.context.any()  # a recorded step cannot ask
        if self.canvas is None or unseen:
            b, width, half = len(embedding), self.block.view.in_features, self.where.shape[-1] // 2
            return embedding.new_zeros(b, width, half, half)
        view = self.canvas(state, embedding, features, visible)
        return view * state.context[:, None, None, None].to(view.dtype)

    def _embedding(self, levels: Tensor, dtype: torch.dtype) -> Tensor:
        extent = torch.full((), 1 / levels.shape[-1], device=levels.device)
        size = self.extent(fourier(extent, 32, 10.0).to(dtype))
        return F.silu(self.level(fourier(levels, 128).to(dtype)) + size)

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
        keep = state.context.repeat_interleave(len(x) // b)[:, None, None].to(dtype)
        keep = torch.maximum(keep, alone)[:, None]  # independent blocks see themselves only
        c = state.canvas.shape[1] + 2
        return torch.cat([x[:, :c] * keep, x[:, c:]], dim=1)
