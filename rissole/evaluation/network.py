"""Networks whose features pictures are compared by: one's own, and well-known ones by name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from tqdm.auto import tqdm

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.lite import VARIANTS, LiteNetwork
from rissole.models.saving import SavedNetwork

ARCHITECTURES = ("resnet18", "resnet34", "resnet50")
# torch-fidelity's name of the one network whose Frechet distance is the FID.
INCEPTION = "inception-v3-compat"
EXTRACTORS = {INCEPTION: "2048", "clip-vit-b-32": "clip"}  # network: its layer
LITE = {f"efficientnet-{variant}": variant for variant in VARIANTS}
# Real photos get this total variance over all features, so that distances measured with different
# networks have about the same size: two unrelated sets of cats are some 200 apart.
TOTAL_VARIANCE = 100.0


@dataclass(frozen=True)
class FeatureConfig:
    """What is needed to rebuild a feature network from its weights."""

    arch: str = "resnet18"
    resolution: int = 128
    seed: int = 0
    scale: float = 1.0  # see TOTAL_VARIANCE


class FeatureNetwork(SavedNetwork):
    """A torchvision ResNet without its classifier.

    Args:
        config: Architecture, working resolution, seed and output scale.
    """

    config_class = FeatureConfig
    what = "feature network"

    def __init__(self, config: FeatureConfig | None = None):
        super().__init__()
        self.config = config or FeatureConfig()
        if self.config.arch not in ARCHITECTURES:
            raise RissoleError(f"unknown architecture {self.config.arch!r}: one of {ARCHITECTURES}")
        self.trunk = getattr(torchvision.models, self.config.arch)(weights=None)
        self.dim: int = self.trunk.fc.in_features
        self.trunk.fc = nn.Identity()
        initialize(self.trunk, torch.Generator().manual_seed(self.config.seed))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @property
    def name(self) -> str:
        """Names architecture, seed and weights, e.g. `resnet18-vicreg-seed0-1a2b3c4d`."""
        digest = hashlib.sha256()
        for tensor in self.state_dict().values():
            digest.update(tensor.detach().half().cpu().contiguous().numpy().tobytes())
        return f"{self.config.arch}-vicreg-seed{self.config.seed}-{digest.hexdigest()[:8]}"

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps after each of the four stages, at 1/4, 1/8, 1/16, 1/32 of the resolution.

        Args:
            images: (B, 3, H, W) in [-1, 1], any size.
        """
        net, maps = self.trunk, []
        edges = net.relu(net.bn1(net.conv1(resize(images, self.config.resolution))))
        hidden = net.maxpool(edges)
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    def spatial(self, images: Tensor) -> Tensor:
        """Map of (B, dim / 2, 8, 8) local features (at resolution 128) of images in [-1, 1]."""
        return self.stages(images)[2]

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, dim) of images (B, 3, H, W) in [-1, 1]."""
        return self.stages(images)[3].mean(dim=(2, 3)) * self.config.scale

    @torch.no_grad()
    def extract(
        self, images: Tensor, batch_size: int = 256, function: Callable | None = None
    ) -> Tensor:
        """Features of many images, batch by batch, in evaluation mode.

        Args:
            images: (N, 3, H, W), uint8 in 0..255 or float in [-1, 1], on any device.
            batch_size: Images per forward pass.
            function: What to compute per batch; the pooled features by default.

        Returns:
            (N, dim) float32 on the CPU.
        """
        function = function or self
        self.eval()
        batches = tqdm(images.split(batch_size), desc="features", leave=False, disable=None)
        return torch.cat([function(to_float(b.to(self.device))).float().cpu() for b in batches])

    @classmethod
    def open(cls, path: str | Path, device: str | torch.device = "cpu") -> FeatureNetwork:
        """Reads what `write` wrote, in evaluation mode.

        Raises:
            RissoleError: The file is not a feature network.
        """
        return cls.read(path).to(device)


def to_bytes(images: Tensor) -> Tensor:
    """Images as uint8: floats in [-1, 1] are rescaled, uint8 passes."""
    if images.dtype == torch.uint8:
        return images
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes (B, 3, H, W) to `size` squared, with antialiasing; the right size passes as is."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """He initialization from an own generator (torchvision's own draws from the global one)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", generator=generator)
        if isinstance(part, nn.Linear):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class LibraryFeatures:
    """A well-known network of the torch-fidelity library, with its downloaded weights.

    Args:
        name: One of `EXTRACTORS`.
        device: Where to run it.

    Raises:
        RissoleError: Unknown name, library not installed, or weights not to be had.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu"):
        if name not in EXTRACTORS:
            names = ", ".join((*EXTRACTORS, *LITE))
            raise RissoleError(f"no feature network {name!r}: give a file or one of {names}")
        try:
            from torch_fidelity.utils import create_feature_extractor
        except ImportError as error:
            raise RissoleError(f"{name} needs the package torch-fidelity") from error
        try:
            network = create_feature_extractor(name, [EXTRACTORS[name]], cuda=False)
        except Exception as error:  # no network, no space, a damaged download, ...
            raise RissoleError(f"cannot load the weights of {name}: {error}") from error
        self.name, self.device, self.network = name, device, network.to(device)

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Features (N, D) on the CPU of images, uint8 or float in [-1, 1]."""
        batches = tqdm(images.split(batch_size), desc=self.name, leave=False, disable=None)
        outputs = [self.network(to_bytes(x).to(self.device))[0] for x in batches]
        return torch.cat([x.float().cpu() for x in outputs])


AnyNetwork = FeatureNetwork | LibraryFeatures | LiteNetwork


def load_features(
    features: FeatureNetwork | str | Path, device: str | torch.device = "cpu", *, size: int = 128
) -> AnyNetwork:
    """A feature network from a file written by `FeatureNetwork.write` or by its known name.

    Names are those of `EXTRACTORS` and `LITE`; of the latter `efficientnet-lite0` is what the
    autoencoder learns from, so it measures with `efficientnet-lite2`.

    Args:
        features: the network itself, its file, or its name.
        device: where it computes.
        size: side in pixels of the pictures to compare.

    Raises:
        RissoleError: unknown name, no such file, or weights that are not installed.
    """
    if isinstance(features, FeatureNetwork):
        return features.to(device).eval()
    if str(features) in LITE:
        return LiteNetwork.measuring(LITE[str(features)], size).to(device)
    if Path(features).is_file():
        return FeatureNetwork.open(features, device)
    return LibraryFeatures(str(features), device)
