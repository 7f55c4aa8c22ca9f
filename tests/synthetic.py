"""Synthetic pictures that measures and feature networks are tested with."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.evaluation.network import FeatureNetwork
from rissole.training.hyperparameters import FeatureTraining
from rissole.training.representation import train_features
from rissole.training.trainer import Budget


def generator(seed: int = 0) -> torch.Generator:
    """Random numbers of a seed."""
    return torch.Generator().manual_seed(seed)


def smooth_pictures(n: int, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth colored pictures (n, 3, size, size), uint8, each with a base color of its own."""
    draw = generator(seed)
    base = torch.rand(n, 3, 1, 1, generator=draw) * 0.8 + 0.1
    waves = torch.randn(n, 3, 5, 5, generator=draw) * 0.08
    waves = F.interpolate(waves, (size, size), mode="bicubic", align_corners=True)
    return ((base + waves).clamp(0, 1) * 255).round().to(torch.uint8)


def trained_network(out: Path, steps: int = 2, seed: int = 0, **settings) -> FeatureNetwork:
    """A feature network that has hardly seen 16 pictures, written to a file."""
    chosen = FeatureTraining(**{"batch_size": 8, **settings})
    budget = Budget(steps=steps)
    return train_features(
        smooth_pictures(16), out, budget, settings=chosen, device="cpu", seed=seed
    )
