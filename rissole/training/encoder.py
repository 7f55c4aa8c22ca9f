"""An optional stage: a small encoder that finds neighbors, trained without labels.

VICReg (Bardes et al., arXiv 2105.04906) on two views of a photo. The views differ from the usual
ones on purpose: a neighbor is useful when its blocks fit at their own place, so pictures are not
mirrored, hardly moved and keep most of their colour; what the views hide from the network is noise,
light, small shifts and a missing piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.autoencoder import Codec
from rissole.config import RissoleError
from rissole.encoders import LearnedConfig, LearnedEncoder, QueryEncoder
from rissole.features import FeatureNetwork, blurred, vicreg
from rissole.training.loop import (
    Budget,
    Progress,
    check_finite,
    fast_matmul,
    infinite_batches,
    learning_rate,
    load_weights,
    save_weights,
    session_seed,
    set_learning_rate,
    write_json,
)
from rissole.training.photos import split, to_float


def train_encoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    batch_size: int = 256,
    peak_rate: float = 1e-3,
    width: int = 1024,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains on uint8 photos (N, 3, S, S) and writes `encoder.safetensors` to `out`.

    Run again on the same folder, it goes on from the weights it finds. In a run's folder as
    `encoder/` it finds the neighbors to train with, and the bundle of the run carries it and
    searches by it (`"encoder": "learned"` in its `config.json`).

    Args:
        batch_size: photos per step, each seen in two views.
        width: of the projector that VICReg's loss is computed behind; it is not shipped.

    Returns:
        Parameters, and the share of held-out photos whose second view finds its photo among all
        held-out ones first.

    Raises:
        RissoleError: for fewer than 4 photos in a batch.
    """
    fast_matmul()
    train, held = (to_float(part).to(device) for part in split(photos))
    batch_size = min(batch_size, len(train))
    if batch_size < 4:
        raise RissoleError("an encoder needs at least 4 photos in a batch")
    generator = torch.Generator(device).manual_seed(session_seed(seed, out / "raw.safetensors"))
    encoder, projector = _networks(photos.shape[-1], width, seed)
    for name, module in (("raw", encoder), ("projector", projector)):
        load_weights(out / f"{name}.safetensors", module.to(device))
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, peak_rate, weight_decay=1e-3)
    batches = infinite_batches(len(train), batch_size, generator)
    bar = Progress(budget, "encoder")
    try:
        for step, progress in bar:
            set_learning_rate(optimizer, learning_rate(progress, step, peak_rate))
            losses = _step(encoder, projector, train[next(batches)], optimizer, generator)
            bar.report(step, **losses)
    finally:  # Ctrl-C keeps what was learned
        check_finite(encoder, projector)
        save_weights(out / "raw.safetensors", encoder)
        save_weights(out / "projector.safetensors", projector)
        result = _finish(encoder.eval(), train, held, generator)
        encoder.save(out)
        write_json(out / "training.json", {**result, "history": bar.history})
    return result


@torch.no_grad()
def neighbor_quality(
    photos: Tensor,
    codec: Codec,
    encoders: Iterable[QueryEncoder],
    judge: FeatureNetwork,
    k: int = 8,
    labels: Tensor | None = None,
) -> dict[str, dict[str, float]]:
    """How good the neighbors are that encoders find for held-out photos among the others.

    Args:
        photos: uint8 (N, 3, S, S).
        codec: makes the latents, and with them the blocks that neighbors lend.
        encoders: what to compare.
        judge: a network that none of the encoders is or was trained with.
        k: neighbors per query.
        labels: (N,) classes of the photos, if they are known.

    Returns:
        For each encoder, and for `chance`, means over queries and neighbors: `features`, the
        distance by the judge as a share of chance's; `blocks`, the squared difference of each
        latent cell to the best of its k neighbors' in units of the latents' variance; with labels
        `same_class`, the share of neighbors of the query's class.
    """
    device = next(codec.parameters()).device
    base, queries = split(photos)
    parts = [
        [codec.encode(to_float(few).to(device)).cpu() for few in part.split(32)]
        for part in (base, queries)
    ]
    latents = [torch.cat(part) for part in parts]
    features = [judge.extract(part) for part in (base, queries)]
    distances = torch.cdist(features[1], features[0])
    found = {
        "chance": torch.randint(
            len(base), (len(queries), k), generator=torch.Generator().manual_seed(0)
        )
    }
    for encoder in encoders:
        own, other = (
            _vectors(encoder, p, z) for p, z in zip((queries, base), latents[::-1], strict=True)
        )
        found[encoder.name] = (own @ other.T).topk(k).indices
    result = {
        name: {
            "features": (distances.gather(1, ids).mean() / distances.mean()).item(),
            "blocks": _misfit(latents[1], latents[0], ids),
        }
        for name, ids in found.items()
    }
    if labels is not None:
        known, asked = split(labels)
        for name, ids in found.items():
            same = (known[ids] == asked[:, None]).float().mean().item()
            result[name]["same_class"] = same
    return result


def _vectors(encoder: QueryEncoder, photos: Tensor, latents: Tensor) -> Tensor:
    pairs = zip(photos.split(64), latents.split(64), strict=True)
    return torch.cat([encoder(to_float(p), z).float().cpu() for p, z in pairs])


def _misfit(queries: Tensor, base: Tensor, ids: Tensor) -> float:
    """Squared difference of cells to the best of their neighbors', per channel."""
    errors = [
        (base[i] - z).square().mean(1).amin(0).mean() for z, i in zip(queries, ids, strict=True)
    ]
    return (torch.stack(errors).mean() / base.var()).item()


def random_view(batch: Tensor, generator: torch.Generator) -> Tensor:
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


def _hole(batch: Tensor, draw) -> Tensor:
    """0 inside one square of up to 3/8 of the side for each photo, 1 elsewhere."""
    line = torch.linspace(-1, 1, batch.shape[-1], device=batch.device)
    half, y, x = draw(0, 0.375), draw(-1, 1), draw(-1, 1)
    inside = ((line[:, None] - y).abs() < half) & ((line[None] - x).abs() < half)
    return (~inside).float()


def _networks(size: int, width: int, seed: int) -> tuple[LearnedEncoder, nn.Module]:
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
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d) and module.stride == (1, 1):
            module.weight.data.mul_(0.5)  # residual branches start small
    return encoder, projector


def _step(
    encoder: LearnedEncoder,
    projector: nn.Module,
    batch: Tensor,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    views = torch.cat([random_view(batch, generator) for _ in range(2)])
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.is_cuda):
        projected = projector(encoder.represent(views)).float()
    losses = vicreg(*projected.chunk(2))
    optimizer.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    nn.utils.clip_grad_norm_([*encoder.parameters(), *projector.parameters()], 10.0)
    optimizer.step()
    return losses


@torch.no_grad()
def _finish(
    encoder: LearnedEncoder, train: Tensor, held: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Stores the mean over the photos, and measures how often a view finds its photo."""
    parts = [encoder.represent(part).float() for part in train[:8192].split(256)]
    encoder.mean.copy_(torch.cat(parts).mean(0))
    plain, changed = (
        torch.cat([encoder(part) for part in pictures.split(256)])
        for pictures in (held, random_view(held, generator))
    )
    found = (changed @ plain.T).argmax(1) == torch.arange(len(held), device=held.device)
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "views_that_find_their_photo": found.float().mean().item(),
    }
