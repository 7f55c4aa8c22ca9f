"""A small network that a bundle brings, trained without labels on its own photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rissole.models.saving import SavedNetwork
from rissole.retrieval.encoders.base import BundleParts, QueryEncoder, digest
from rissole.storage.schema import Depth, Width


@dataclass(frozen=True)
class LearnedConfig:
    """Shape of a `LearnedEncoder`.

    Attributes:
        image_size: side in pixels to which pictures are scaled.
        channels: width at each stage; multiples of 16. Each stage halves the resolution.
        blocks: residual blocks per stage.
        dim: length of a vector.
    """

    image_size: Annotated[int, Field(ge=1, le=1024)] = 128
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (32, 64, 128, 192)
    blocks: Depth = 2
    dim: Width = 192


class LearnedEncoder(SavedNetwork, QueryEncoder):
    """A small network, trained without labels on the bundle's own photos and stored in it.

    See `rissole.training.encoder_stage`. It is never the network that samples are measured with.
    """

    name = "learned"
    label = "Alike to a trained encoder"
    config_class = LearnedConfig
    file_name = "encoder.safetensors"
    what = "encoder"
    config: LearnedConfig

    def __init__(self, config: LearnedConfig | None = None):
        super().__init__()
        self.config = config or LearnedConfig()
        widths = self.config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for before, width in zip((widths[0], *widths), widths, strict=False):
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1))
            layers += [_Residual(width) for _ in range(self.config.blocks)]
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(widths[-1] // 16, widths[-1]), nn.SiLU())
        # where things are matters as much as what they are: blocks meet blocks at their own place
        self.head = nn.Linear(4 * widths[-1], self.config.dim)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(self.config.dim))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Length of a vector."""
        return self.config.dim

    @property
    def id(self) -> str:  # type: ignore[override]
        """Stands for the weights in the half precision in which they are stored."""
        return f"learned-{digest([t.half() for t in self.state_dict().values()])}"

    @classmethod
    def from_bundle(cls, bundle: BundleParts) -> LearnedEncoder | None:
        """See `QueryEncoder`: some bundles have one, in a folder of its own."""
        folder = None if bundle.folder is None else bundle.folder / "encoder"
        return cls.load(folder) if folder is not None and folder.is_dir() else None

    def represent(self, pixels: Tensor) -> Tensor:
        """(B, dim) of pictures (B, 3, H, W) in [-1, 1], neither centered nor of unit length."""
        size = self.config.image_size
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        maps = self.trunk(pixels.to(self.mean.dtype))
        return self.head(F.adaptive_avg_pool2d(maps, 2).flatten(1))

    def forward(self, pixels: Tensor, latents: Tensor | None = None) -> Tensor:
        """See `QueryEncoder`."""
        return F.normalize(self.represent(pixels.to(self.mean.device)) - self.mean, dim=1).float()

    __call__ = nn.Module.__call__
    to = nn.Module.to


class _Residual(nn.Module):
    """x + two convolutions, normalized in groups of 16 channels: alike in batches of any size."""

    def __init__(self, channels: int):
        super().__init__()
        groups = channels // 16
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
