"""A self-supervised feature network, trained on the photos themselves, for measuring images.

Frechet distances and their relatives need features. With no download at hand this module trains
them in minutes on one GPU: :func:`train_features` in, :class:`FeatureNetwork` out. Such features
serve to compare models on one data set; they are not Inception's and no number from them is a FID.

Two tasks share one trunk:

* VICReg (Bardes et al., 2022, eq. 1-6) on two random views of a photo: which cat, which coat, which
  pose. It needs neither negatives nor a momentum copy and is content with batches of 512.
* Telling how a photo was damaged: not at all, smoothly warped, pieces of another photo in place,
  own pieces moved, blurred, or noisy. View invariance alone would make the network forgive exactly
  what a block-wise generator gets wrong (an eye too high, an ear of another cat), and blur as an
  augmentation would make it forgive softness, so damage is *told apart* by a linear head instead
  of being averaged away. Half of the pasted pieces have feathered borders: with hard borders alone
  the seam would give the answer and shapes would never be looked at. Patch shuffling and rotation
  (RotNet) were the alternatives: rotated photos are too easy and unlike any error of a generator.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from rissole.config import RissoleError
from rissole.files import save_tensors
from rissole.training.loop import (
    Budget,
    Progress,
    check_finite,
    load_weights,
    save_weights,
    session_seed,
)

ARCHITECTURES = ("resnet18", "resnet34", "resnet50")
DAMAGES = ("intact", "warped", "foreign pieces", "moved pieces", "blurred", "noisy")
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


class FeatureNetwork(nn.Module):
    """A torchvision ResNet without its classifier.

    Args:
        config: Architecture, working resolution, seed and output scale.
    """

    def __init__(self, config: FeatureConfig | None = None):
        super().__init__()
        self.config = config or FeatureConfig()
        if self.config.arch not in ARCHITECTURES:
            raise RissoleError(f"unknown architecture {self.config.arch!r}: one of {ARCHITECTURES}")
        self.trunk = getattr(torchvision.models, self.config.arch)(weights=None)
        self.dim: int = self.trunk.fc.in_features
        self.trunk.fc = nn.Identity()
        _initialise(self.trunk, torch.Generator().manual_seed(self.config.seed))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @property
    def name(self) -> str:
        """Names architecture, seed and weights, e.g. ``resnet18-vicreg-seed0-1a2b3c4d``."""
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
        hidden = net.maxpool(self._edges(images))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    def early(self, images: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4 and 1/8: edges, fur, eyes, but not yet which cat it is."""
        net = self.trunk
        edges = self._edges(images)
        first = net.layer1(net.maxpool(edges))
        return [edges, first, net.layer2(first)]

    def _edges(self, images: Tensor) -> Tensor:
        net = self.trunk
        return net.relu(net.bn1(net.conv1(resize(images, self.config.resolution))))

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

    def save(self, path: str | Path) -> None:
        """Write half-precision weights with the config in the safetensors metadata."""
        tensors = {
            key: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous()
            for key, t in self.state_dict().items()
        }
        save_tensors(tensors, path, metadata={"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> FeatureNetwork:
        """Read a network written by :meth:`save`, in evaluation mode.

        Raises:
            RissoleError: The file is not a feature network.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                config = FeatureConfig(**json.loads((file.metadata() or {})["config"]))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            network = cls(config)
            network.load_state_dict(tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RissoleError(f"{path} is not a feature network of this project") from error
        return network.to(device).eval()


def to_float(images: Tensor) -> Tensor:
    """Images as float32 in [-1, 1]: uint8 is rescaled, floats pass."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (B, 3, H, W) to ``size`` squared, with antialiasing; the right size passes as is."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def train_features(
    photos: Tensor,
    minutes: float | None = None,
    batch_size: int = 512,
    seed: int = 0,
    device: str | torch.device | None = None,
    *,
    arch: str = "resnet18",
    resolution: int | None = None,
    steps: int | None = None,
    out: Path | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> FeatureNetwork:
    """Train a feature network on photos without labels.

    Args:
        photos: uint8 (N, 3, S, S), kept on ``device`` whole.
        minutes: Wall-clock budget; the learning rate is annealed over it. Without ``steps`` 3.
        batch_size: Photos per step, each seen in two views; half of them once more, damaged.
        seed: Of weights, batches and augmentation.
        device: Where to train; that of ``photos`` by default.
        arch: One of ``ARCHITECTURES``.
        resolution: To which the network scales all images, S by default. Twice that is better for
            photos of 32 pixels, of which the last stage would see one cell.
        steps: Stop after this many steps, if that is earlier.
        out: File that the network is written to, also when Ctrl-C ends the training. A network that
            is there already is trained on; what else that takes is kept beside it.
        on_step: Called with the step number and its losses every 20 steps.

    Returns:
        The network in evaluation mode, its features scaled to ``TOTAL_VARIANCE`` on the photos.

    Raises:
        RissoleError: Too few photos, or an unknown architecture.
    """
    if min(len(photos), batch_size) < 4:
        raise RissoleError("a feature network needs at least 4 photos in a batch")
    device = torch.device(device or photos.device)
    photos = photos.to(device)
    model = _learner(FeatureConfig(arch, resolution or photos.shape[-1], seed), out)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    generator = torch.Generator(device).manual_seed(session_seed(seed, out) if out else seed)
    minutes = minutes or (3.0 if steps is None else math.inf)
    bar = Progress(Budget(minutes, steps), f"features {arch}")
    try:
        for step, progress in bar:
            optimizer.param_groups[0]["lr"] = 1e-3 * _anneal(progress)
            losses = _training_step(model, optimizer, photos, batch_size, generator)
            bar.report(step, **losses)
            if on_step and step % 20 == 0:
                on_step(step, {name: float(value) for name, value in losses.items()})
    finally:  # Ctrl-C keeps what was learned
        check_finite(model)
        network = _calibrated(model.network, photos)
        if out is not None:
            network.save(out)
            save_weights(_heads_file(out), model.heads)
    return network


# ------------------------------------------------------------------------------- training


class _Learner(nn.Module):
    """Trunk, VICReg projector and damage head."""

    def __init__(self, network: FeatureNetwork, width: int = 1024):
        super().__init__()
        self.network = network
        self.projector = nn.Sequential(
            nn.Linear(network.dim, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )
        # Linear on purpose: damage then moves the features along directions that FD can see.
        self.damage = nn.Linear(network.dim, len(DAMAGES))
        generator = torch.Generator().manual_seed(network.config.seed + 1)
        _initialise(self.projector, generator)
        _initialise(self.damage, generator)

    @property
    def heads(self) -> nn.ModuleList:
        """What only training needs."""
        return nn.ModuleList([self.projector, self.damage])

    def forward(self, views: Tensor, damaged: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network(torch.cat([views, damaged]))
        return self.projector(features[: len(views)]), self.damage(features[len(views) :])


def _learner(config: FeatureConfig, out: Path | None) -> _Learner:
    """A new learner, or the one that was written to a file and beside it."""
    if out is None or not out.exists():
        return _Learner(FeatureNetwork(config))
    network = FeatureNetwork.load(out)
    network.config = replace(network.config, scale=1.0)  # calibrated anew in the end
    learner = _Learner(network)
    load_weights(_heads_file(out), learner.heads)
    return learner


def _heads_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}-heads.safetensors")


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """He initialisation from an own generator (torchvision's own draws from the global one)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", generator=generator)
        if isinstance(part, nn.Linear):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _anneal(progress: float, warmup: float = 0.05) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def _training_step(
    model: _Learner,
    optimizer: torch.optim.Optimizer,
    photos: Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    picks = torch.randperm(len(photos), generator=generator, device=photos.device)[:batch_size]
    batch = to_float(photos[picks])
    views = torch.cat([random_view(batch, generator) for _ in range(2)])
    damaged, kinds = random_damage(batch[: max(2, len(batch) // 2)], generator)
    with torch.autocast(photos.device.type, torch.bfloat16, enabled=photos.is_cuda):
        embedded, logits = model(_fast_layout(views), _fast_layout(damaged))
    losses = vicreg(*embedded.float().chunk(2))
    losses["damage"] = F.cross_entropy(logits.float(), kinds)
    total = sum(losses.values()) + 4 * losses["damage"]  # about as large as the VICReg terms
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return {key: value.detach() for key, value in losses.items()} | {"total": total.detach()}


def _fast_layout(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def vicreg(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """VICReg's three terms (Bardes et al., 2022) with the paper's weights 25, 25, 1.

    Args:
        a: (B, D) projections of one view of B photos.
        b: (B, D) projections of another view of the same photos, in the same order.
    """
    return {
        "invariance": 25 * F.mse_loss(a, b),
        "variance": 25 * (_spread_loss(a) + _spread_loss(b)) / 2,
        "covariance": _covariance_loss(a) + _covariance_loss(b),
    }


def _spread_loss(x: Tensor) -> Tensor:
    return F.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean()


def _covariance_loss(x: Tensor) -> Tensor:
    x = x - x.mean(dim=0)
    covariance = x.T @ x / (len(x) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


def _calibrated(network: FeatureNetwork, photos: Tensor) -> FeatureNetwork:
    """Set the output scale so that the photos have ``TOTAL_VARIANCE``."""
    variance = network.extract(photos).var(dim=0).sum().clamp_min(1e-12)
    scale = math.sqrt(TOTAL_VARIANCE / float(variance))
    network.config = replace(network.config, scale=scale)
    return network


# --------------------------------------------------------- augmentation, one batch at a time


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.empty(n, device=generator.device).uniform_(low, high, generator=generator)


def _chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return _uniform(n, 0, 1, generator) < probability


def _crop_grid(batch: Tensor, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Sampling grids (B, H, W, 2) of random resized, possibly mirrored crops.

    Args:
        batch: (B, 3, H, W), only its shape is used.
        scale: Smallest and largest share of the area that is kept.
        generator: On the device of ``batch``.
    """
    n = len(batch)
    side = _uniform(n, *scale, generator).sqrt()
    stretch = _uniform(n, math.log(3 / 4), math.log(4 / 3), generator).mul(0.5).exp()
    width, height = (side * stretch).clamp_max(1), (side / stretch).clamp_max(1)
    mirror = 1 - 2 * _chance(n, 0.5, generator).float()
    theta = torch.zeros(n, 2, 3, device=batch.device)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2] = _uniform(n, -1, 1, generator) * (1 - width)
    theta[:, 1, 2] = _uniform(n, -1, 1, generator) * (1 - height)
    return F.affine_grid(theta, list(batch.shape), align_corners=False)


def _sample(batch: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def random_view(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One augmented view per photo: crop, flip, colours, sometimes grey, now and then blurred.

    Args:
        batch: (B, 3, H, W) in [-1, 1].
        generator: On the device of ``batch``.
    """
    view = jitter_colours(_sample(batch, _crop_grid(batch, (0.35, 1.0), generator)), generator)
    # Seldom: features that ignore blur would measure soft pictures as good ones.
    blur = _chance(len(batch), 0.1, generator).float()[:, None, None, None]
    return torch.lerp(view, blurred(view, 1.0), blur)


def jitter_colours(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Random hue, saturation, contrast and brightness per photo; one in ten turns grey."""
    n = len(batch)
    turn = _hue_matrix(_uniform(n, -0.3, 0.3, generator))
    batch = torch.einsum("bij,bjhw->bihw", turn, batch)
    grey = batch.mean(dim=1, keepdim=True)
    saturation = _uniform(n, 0.6, 1.4, generator) * (~_chance(n, 0.1, generator)).float()
    batch = grey + (batch - grey) * saturation[:, None, None, None]
    contrast = _uniform(n, 0.6, 1.4, generator)[:, None, None, None]
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    return (batch + _uniform(n, -0.25, 0.25, generator)[:, None, None, None]).clamp(-1, 1)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of RGB about the grey axis by ``angle`` radians (B,), by Rodrigues."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / 3**0.5
    return cos * torch.eye(3, device=angle.device) + (1 - cos) * third + sin * cross


def blurred(batch: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (separable, reflected borders) with one sigma in pixels at 128 px."""
    sigma = sigma * batch.shape[-1] / 128
    radius = max(1, math.ceil(2.5 * sigma))
    taps = torch.arange(-radius, radius + 1, device=batch.device, dtype=batch.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(batch.shape[1], 1, -1)
    padded = F.pad(batch, (radius,) * 4, mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None], groups=batch.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=batch.shape[1])


# ---------------------------------------------------------------------------------- damage


def random_damage(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Damage every photo in one random way of ``DAMAGES``.

    All kinds pass through the same single resampling, so that its softness tells nothing.

    Args:
        batch: (B, 3, H, W) in [-1, 1].
        generator: On the device of ``batch``.

    Returns:
        Images (B, 3, H, W) and kinds (B,), indices into ``DAMAGES``.
    """
    n = len(batch)
    kinds = torch.randint(len(DAMAGES), (n,), generator=generator, device=batch.device)
    picked = [(kinds == i).float()[:, None, None, None] for i in range(len(DAMAGES))]
    grid = _crop_grid(batch, (0.75, 1.0), generator)
    image = _sample(batch, grid + picked[1] * _warp_field(batch, generator))
    mask = _piece_mask(batch, generator)
    image = torch.lerp(image, _sample(batch.roll(1, dims=0), grid), mask * picked[2])
    image = torch.lerp(image, _sample(batch, grid + _shift(batch, generator)), mask * picked[3])
    image = jitter_colours(image, generator)
    image = torch.lerp(image, blurred(image, 1.2), picked[4])
    noise = torch.empty_like(image).normal_(generator=generator)
    strength = _uniform(n, 0.04, 0.15, generator)[:, None, None, None]
    return image + picked[5] * strength * noise, kinds


def _warp_field(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Smooth displacements (B, H, W, 2), 3 to 10 px at 128 px, varying over some 30 px."""
    coarse = torch.empty(len(batch), 2, 5, 5, device=batch.device).normal_(generator=generator)
    coarse = coarse * _uniform(len(batch), 0.05, 0.15, generator)[:, None, None, None]
    field = F.interpolate(coarse, batch.shape[-2:], mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _piece_mask(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Masks (B, 1, H, W) of a few cells of a 4x4 grid, hard or feathered by an eighth of a side."""
    n = len(batch)
    share = _uniform(n, 0.1, 0.5, generator)[:, None, None, None]
    cells = torch.empty(n, 1, 4, 4, device=batch.device).uniform_(generator=generator)
    # The smallest cell is always in: a mask without any cell would be mislabelled.
    cells = ((cells < share) | (cells == cells.amin(dim=(2, 3), keepdim=True))).float()
    hard = F.interpolate(cells, batch.shape[-2:], mode="nearest")
    soft = F.interpolate(cells, scale_factor=4, mode="nearest")
    soft = F.interpolate(soft, batch.shape[-2:], mode="bilinear")
    return torch.where(_chance(n, 0.5, generator)[:, None, None, None], soft, hard)


def _shift(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Offsets (B, 1, 1, 2) of an eighth to a half of the picture, in any direction."""
    angle = _uniform(len(batch), 0, 2 * math.pi, generator)
    length = _uniform(len(batch), 0.25, 1.0, generator)
    return torch.stack([angle.cos() * length, angle.sin() * length], dim=-1)[:, None, None]
