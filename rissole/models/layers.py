"""What the denoiser is built of: maps are (N, C, h, w), with channels last in memory."""

from __future__ import annotations

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def recorded() -> bool:
    """Whether the network is being written down as a graph, which has to do with plain tensors."""
    return torch.compiler.is_exporting()


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
        weight = bias = None
        if self.elementwise_affine:
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        plain = torch.autocast(x.device.type, enabled=False)
        with contextlib.nullcontext() if recorded() else plain:
            cells = x.permute(0, 2, 3, 1)
            cells = F.layer_norm(cells, self.normalized_shape, weight, bias, self.eps)
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
    if not weights and not recorded():
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
