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

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.evaluation.network import (
    TOTAL_VARIANCE,
    FeatureConfig,
    FeatureNetwork,
    initialize,
    to_float,
)
from rissole.training.trainer import Budget, Progress, load_weights, save_weights, session_seed
from rissole.training.views import DAMAGES, random_damage, random_view


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
        network = _calibrated(model.network, photos)
        if out is not None:
            network.save(out)
            save_weights(_heads_file(out), model.heads)
    return network


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
        initialize(self.projector, generator)
        initialize(self.damage, generator)

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
