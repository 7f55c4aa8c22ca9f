"""A self-supervised feature network, trained on the photos themselves, for measuring images.

Frechet distances and their relatives need features. With no download at hand this module trains
them in minutes on one GPU: `train_features` makes a `FeatureNetwork`. Such features
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
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.network import (
    TOTAL_VARIANCE,
    FeatureConfig,
    FeatureNetwork,
    initialize,
)
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import FeatureTraining
from rissole.training.learner import Trained
from rissole.training.stage import state_folder
from rissole.training.trainer import Batches, Budget, History, Trainer, generator_for
from rissole.training.vicreg import vicreg
from rissole.training.views import DAMAGES, random_damage, random_view


def train_features(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    settings: FeatureTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> FeatureNetwork:
    """Trains a feature network on photos without labels, and writes it to a file.

    Run again on the same file, it goes on where it stopped. Beside it lies the history of the
    losses.

    Args:
        photos: uint8 (N, 3, S, S), kept on the device whole.
        out: file of the network.
        budget: the learning rate is annealed over it.
        settings: of the stage.
        device: where to train.
        seed: of weights, batches and augmentation.

    Returns:
        The network in evaluation mode, its features scaled to `TOTAL_VARIANCE` on the photos.

    Raises:
        RissoleError: Too few photos, or an unknown architecture.
    """
    settings = settings or FeatureTraining()
    batch_size = min(settings.batch_size, len(photos))
    if batch_size < 4:
        raise RissoleError("a feature network needs at least 4 photos in a batch")
    config = FeatureConfig(settings.arch, settings.resolution or photos.shape[-1], seed)
    model = Learner(FeatureNetwork(config)).to(device).to(memory_format=torch.channels_last)
    photos, generator = photos.to(device), generator_for(seed, device)
    how = Trained(model, 1e-3, betas=(0.9, 0.999), weight_decay=1e-3, clip=10.0)
    trainer = Trainer({"features": how}, generator, state_folder(out))

    def keep(history: History) -> None:
        calibrate(model.network, photos)
        model.network.write(out)
        write_json(out.with_suffix(".json"), {"network": model.network.name, "history": history})

    trainer.fit(
        [lambda index: feature_losses(model, photos[index], generator)],
        Batches(len(photos), batch_size, generator), budget, keep,
        title=f"{out.stem} {settings.arch}", recorded=False, every=25,
    )  # fmt: skip
    return model.network


class Learner(nn.Module):
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

    def forward(self, views: Tensor, damaged: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of views (2 B, 3, S, S), and logits of how pictures were damaged."""
        features = self.network(torch.cat([views, damaged]))
        return self.projector(features[: len(views)]), self.damage(features[len(views) :])


def feature_losses(model: Learner, photos: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Losses of a batch of photos (B, 3, S, S), uint8; adds their gradients."""
    batch = to_float(photos)
    views = torch.cat([random_view(batch, generator) for _ in range(2)])
    damaged, kinds = random_damage(batch[: max(2, len(batch) // 2)], generator)
    layout = torch.channels_last
    with torch.autocast(photos.device.type, torch.bfloat16, enabled=photos.is_cuda):
        embedded, logits = model(
            views.contiguous(memory_format=layout), damaged.contiguous(memory_format=layout)
        )
    losses = vicreg(*embedded.float().chunk(2))
    losses["damage"] = F.cross_entropy(logits.float(), kinds)
    # damage four times more, which makes it about as large as the VICReg terms
    total = torch.stack([*losses.values(), 4 * losses["damage"]]).sum()
    total.backward()
    return {key: value.detach() for key, value in losses.items()} | {"total": total.detach()}


def calibrate(network: FeatureNetwork, photos: Tensor) -> None:
    """Sets the output scale so that the photos have `TOTAL_VARIANCE`."""
    network.config = replace(network.config, scale=1.0)
    variance = network.extract(photos).var(dim=0).sum().clamp_min(1e-12)
    network.config = replace(network.config, scale=math.sqrt(TOTAL_VARIANCE / float(variance)))
