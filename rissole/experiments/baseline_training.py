"""Training of what the block denoiser is compared with: same latents, neighbors, loop and time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rissole.experiments.baselines import Baseline, BaselineConfig
from rissole.training.denoiser_stage import DenoiserTraining, Sampler, make_sampler
from rissole.training.trainer import Budget, draw, fit, rank, seeded, session_seed, write_json


def baseline_loss(model: Baseline, sampler: Sampler, index: Tensor) -> Tensor:
    """The mean squared error of the predicted noise or velocity, one batch of pictures (B,)."""
    clean = sampler.latents[index].float()
    published = model.config.kind.startswith("published")
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=clean.is_cuda):
        loss = _published_loss if published else _whole_loss
        output, target = loss(model, sampler, clean, index)
    return (output.float() - target).square().mean()


def _published_loss(
    model: Baseline, sampler: Sampler, clean: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Every block of a picture has its own step of the linear schedule (arXiv 2006.11239)."""
    k = model.config.neighbors
    if model.config.kind == "published":
        neighbors = sampler.pool[sampler.table[index, :k]].float()
    else:
        neighbors = sampler.normal(len(clean), k, *clean.shape[1:])
    blocks = model.grid**2
    step = (sampler.rand(len(clean), blocks) * 1000).long().clamp(max=999)
    kept = model.kept[step]
    noise = sampler.normal(*clean.shape)
    side = model.grid
    kept = kept.view(-1, 1, side, side).repeat_interleave(clean.shape[-1] // side, -1)
    kept = kept.repeat_interleave(clean.shape[-2] // side, -2)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    return model(noisy, step.float(), neighbors), noise


def _whole_loss(
    model: Baseline, sampler: Sampler, clean: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    level = torch.sigmoid(sampler.normal(len(clean), 1))  # arXiv 2403.03206, eq. 19
    noise = sampler.normal(*clean.shape)
    t = level[..., None, None]
    neighbors = shown = None
    if model.config.kind == "whole-image-retrieval":
        neighbors, seen = sampler.neighbors(index, sampler.settings.neighbors)
        shown = seen.any(1)
    return model((1 - t) * clean + t * noise, 1000 * level, neighbors, shown), noise - clean


def train_baseline(
    kind: str,
    data: dict[str, Tensor],
    out: Path,
    budget: Budget,
    *,
    config: BaselineConfig | None = None,
    settings: DenoiserTraining | None = None,
    schedule: tuple[float, float] = (0.0, 1.0),
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains one of `BASELINES` as `train_denoiser` does its network.

    Returns:
        Losses on training and held-out latents; they compare within a kind only.
    """
    settings = settings or DenoiserTraining()
    _, channels, size, _ = data["latents"].shape
    config = config or BaselineConfig(kind, latent_channels=channels, latent_size=size)
    model = seeded(lambda: Baseline(config), seed).to(device)
    generator = draw(session_seed(seed, out / "raw.safetensors"), schedule, device)
    sampler = make_sampler(data, "", settings, generator, device)
    history = fit(
        model, [lambda index: baseline_loss(model, sampler, index)], [1.0], sampler.batches,
        sampler.generator, out, budget, peak_rate=settings.peak_rate, schedule=schedule, seed=seed,
    )  # fmt: skip
    result = _validate(model.eval(), data, settings, device)
    if rank() == 0:
        write_json(out / f"training-{schedule[1]:g}.json", {**result, "history": history})
    return result


@torch.no_grad()
def _validate(
    model: Baseline, data: dict[str, Tensor], settings: DenoiserTraining, device: str
) -> dict[str, float]:
    result = {}
    for prefix in ("", "held_"):
        generator = torch.Generator(device).manual_seed(1)
        sampler = make_sampler(data, prefix, settings, generator, device)
        count = min(len(sampler.latents), 4 * settings.batch_size)
        parts = torch.arange(count, device=device).split(settings.batch_size)
        losses = [baseline_loss(model, sampler, part) for part in parts]
        result[f"{prefix or 'train_'}loss"] = torch.stack(losses).mean().item()
    return result
