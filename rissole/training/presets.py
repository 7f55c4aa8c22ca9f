"""What `train --stage denoiser` can train: the block denoiser, and what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from rissole.experiments.baseline_training import train_baseline
from rissole.experiments.baselines import BASELINES, BaselineConfig
from rissole.models.denoiser import DenoiserConfig
from rissole.training.denoiser_stage import DenoiserTraining, train_denoiser
from rissole.training.trainer import Budget

# the block denoiser, and what is taken away from it
BLOCKWISE: dict[str, dict[str, Any]] = {
    "rissole": {},
    "no-halo": {"halo": 0},
    "no-canvas": {"canvas": False},
}
PRESETS = (*BLOCKWISE, *BASELINES)


def train_preset(
    preset: str,
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Trains one of `PRESETS` on the latents of `make_latents`.

    Args:
        model: changes to the network's shape, `DenoiserConfig` or `BaselineConfig`.
        settings: changes to `DenoiserTraining`.

    Returns:
        Losses on training and held-out latents.
    """
    _, channels, size, _ = data["latents"].shape
    shape = {"latent_channels": channels, "latent_size": size, **(model or {})}
    shape = {name: tuple(v) if isinstance(v, list) else v for name, v in shape.items()}
    common = {
        "settings": DenoiserTraining(**settings),
        "schedule": schedule,
        "device": device,
        "seed": seed,
    }
    if preset in BASELINES:
        config = BaselineConfig(preset, **shape)
        return train_baseline(preset, data, out, budget, config=config, **common)
    config = DenoiserConfig(**shape | BLOCKWISE[preset])
    return train_denoiser(data, out, budget, config=config, **common)
