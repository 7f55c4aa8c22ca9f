"""A small encoder that finds neighbors, trained without labels.

VICReg (Bardes et al., arXiv 2105.04906) on two views of a photo. The views differ from the usual
ones on purpose: a neighbor is useful when its blocks fit at their own place, so pictures are not
mirrored, hardly moved and keep most of their color; what the views hide from the network is noise,
light, small shifts and a missing piece.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.data.photos import split, to_float
from rissole.evaluation.augmentation import blurred
from rissole.retrieval.encoders import LearnedConfig, LearnedEncoder
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import EncoderTraining
from rissole.training.learner import Trained
from rissole.training.stage import state_folder
from rissole.training.trainer import Batches, Budget, History, Trainer, generator_for
from rissole.training.vicreg import vicreg


def train_encoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    settings: EncoderTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains on uint8 photos (N, 3, S, S) and writes `encoder.safetensors` to `out`.

    Run again on the same folder, it goes on where it stopped. In a run's folder as `encoder/` it
    finds the neighbors to train with, and the bundle of the run carries it and searches by it
    (`"encoder": "learned"` in its `config.json`).

    Returns:
        Parameters, and the share of held-out photos whose second view finds its photo among all
        held-out ones first.

    Raises:
        RissoleError: for fewer than 4 photos in a batch.
    """
    settings = settings or EncoderTraining()
    train, held = (to_float(part).to(device) for part in split(photos))
    batch_size = min(settings.batch_size, len(train))
    if batch_size < 4:
        raise RissoleError("an encoder needs at least 4 photos in a batch")
    generator = generator_for(seed, device)
    encoder, projector = networks(photos.shape[-1], settings.width, seed)
    both = nn.ModuleList([encoder, projector]).to(device)
    how = Trained(both, settings.peak_rate, betas=(0.9, 0.999), weight_decay=1e-3, clip=10.0)
    trainer = Trainer({"encoder": how}, generator, state_folder(out))
    result: dict[str, float] = {}

    def keep(history: History) -> None:
        result.update(finish(encoder.eval(), train, held, generator))
        encoder.save(out)
        write_json(out / "training.json", {**result, "history": history})

    trainer.fit(
        [lambda index: encoder_losses(encoder, projector, train[index], generator)],
        Batches(len(train), batch_size, generator), budget, keep,
        title="encoder", recorded=False, every=25,
    )  # fmt: skip
    return result


def encoder_losses(
    encoder: LearnedEncoder, projector: nn.Module, batch: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Losses of a batch of photos (B, 3, S, S) in [-1, 1]; adds their gradients."""
    views = torch.cat([changed_view(batch, generator) for _ in range(2)])
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.is_cuda):
        projected = projector(encoder.represent(views)).float()
    losses = vicreg(*projected.chunk(2))
    sum(losses.values(), batch.new_zeros(())).backward()
    return {name: value.detach() for name, value in losses.items()}


def changed_view(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One gently changed view of each photo (B, 3, S, S) in [-1, 1]."""
    n, device = len(batch), batch.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1, device=device).uniform_(low, high, generator=generator)

    scale, dy, dx = draw(0.75, 1.0), draw(-1, 1), draw(-1, 1)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale.flatten()
    theta[:, 0, 2], theta[:, 1, 2] = (((1 - scale) * d).flatten() for d in (dx, dy))
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    view = F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)
    mean = view.mean((1, 2, 3), keepdim=True)
    view = (view - mean) * draw(0.8, 1.2) + mean + draw(-0.15, 0.15)
    view = torch.lerp(view, blurred(view, 1.0), (draw(0, 1) < 0.3).float())
    noise = torch.randn(view.shape, device=device, generator=generator)
    return (view + 0.05 * draw(0, 1) * noise) * _hole(batch, draw)


def _hole(batch: Tensor, draw: Callable[[float, float], Tensor]) -> Tensor:
    """0 inside one square of up to 3/8 of the side for each photo, 1 elsewhere."""
    line = torch.linspace(-1, 1, batch.shape[-1], device=batch.device)
    half, y, x = draw(0, 0.375), draw(-1, 1), draw(-1, 1)
    inside = ((line[:, None] - y).abs() < half) & ((line[None] - x).abs() < half)
    return (~inside).float()


def networks(size: int, width: int, seed: int) -> tuple[LearnedEncoder, nn.Module]:
    """Encoder and projector, their weights drawn from an own generator."""
    # one stage fewer for small pictures, so that 4x4 cells are left
    config = LearnedConfig(image_size=size)
    if size <= 32:
        config = LearnedConfig(image_size=size, channels=(64, 128, 192))
    encoder = LearnedEncoder(config)
    projector = nn.Sequential(
        nn.Linear(config.dim, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
    )
    generator = torch.Generator().manual_seed(seed)
    for module in (*encoder.modules(), *projector.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d) and module.stride == (1, 1):
            module.weight.data.mul_(0.5)  # residual branches start small
    return encoder, projector


@torch.no_grad()
def finish(
    encoder: LearnedEncoder, train: Tensor, held: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Stores the mean over the photos, and measures how often a view finds its photo."""
    parts = [encoder.represent(part).float() for part in train[:8192].split(256)]
    encoder.get_buffer("mean").copy_(torch.cat(parts).mean(0))
    plain, changed = (
        torch.cat([encoder(part) for part in pictures.split(256)])
        for pictures in (held, changed_view(held, generator))
    )
    found = (changed @ plain.T).argmax(1) == torch.arange(len(held), device=held.device)
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "views_that_find_their_photo": found.float().mean().item(),
    }
