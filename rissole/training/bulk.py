"""Many pictures at once, painted for training pictures as queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS
from rissole.evaluation.network import to_bytes
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.sampling import Plan, canvas_noise, paint


@dataclass(frozen=True)
class Painting:
    """How pictures are painted.

    Attributes:
        order, grid, num_inference_steps, guidance_scale: as everywhere.
        k: neighbors shown; 0 paints without.
    """

    order: str = "parallel"
    grid: int = 4
    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE
    k: int = 8

    @property
    def groups(self) -> int:
        """How many are painted one upon another: all blocks at once, or each after the last."""
        return self.grid**2 if self.order == "sequential" else 1


def batch_size(device: torch.device) -> int:
    """Pictures to paint at a time.

    More are no faster on a processor, and a progress bar would stand still.
    """
    return 256 if device.type == "cuda" else 16


def noises(seed: int, like: Tensor) -> Tensor:
    """Noise on the CPU for pictures (B, C, S, S): of the seed, the next one, and so on."""
    channels, height, width = like.shape[1:]
    shape = (channels, height, width)
    return torch.stack([canvas_noise(seed + number, shape) for number in range(len(like))])


def paint_many(
    model: Denoiser, neighbors: Tensor, how: Painting | None = None, seed: int = 0
) -> Tensor:
    """Paints one picture per row of neighbors, in batches.

    Args:
        model: paints.
        neighbors: (N, K, C, S, S) latents; K = 0 paints without any.
        how: order, steps and the like; all K neighbors are shown.
        seed: picture i has the noise of seed + i.

    Returns:
        Latents (N, C, S, S), float32 on the CPU.
    """
    how, batch = how or Painting(), batch_size(next(model.parameters()).device)
    starts = range(0, len(neighbors), batch)
    bar = tqdm(starts, desc="painting", unit="batch", leave=False, disable=None)
    parts = [paint_batch(model, neighbors[i : i + batch], how, seed + i) for i in bar]
    return torch.cat(parts)


def paint_batch(model: Denoiser, neighbors: Tensor, how: Painting, seed: int) -> Tensor:
    """Paints one batch, as `paint_many` does."""
    weights = next(model.parameters())
    shown = neighbors.to(weights.device, weights.dtype)
    b, k = shown.shape[:2]
    if k == 0:  # attention needs a tensor to look away from
        shown = shown.new_zeros(b, 1, *shown.shape[2:])
    with torch.inference_mode():
        features = model.encode_neighbors(shown)
    visible = torch.full((b, how.grid, how.grid, max(k, 1)), k > 0, device=weights.device)
    plan = Plan(
        noises(seed, shown[:, 0]).to(weights.device), features, visible,
        how.guidance_scale if k else 1.0, how.num_inference_steps, how.order,
    )  # fmt: skip
    for step in paint(model, default_scheduler(), plan):
        last = step.estimate
    return last.cpu()


def training_neighbors(
    data: dict[str, Tensor], queries: Tensor, k: int, seed: int = 0, reach: int | None = None
) -> Tensor:
    """Latents (N, k, C, S, S) of neighbors of training pictures, the nearest or a draw.

    Args:
        data: of the latents stage.
        queries: (N,) numbers of training pictures.
        reach: draw the k from so many nearest; None takes the k nearest.

    Where photos have classes, neighbors of the query's own come before all others.
    """
    table = data["neighbors"][queries]
    if "labels" in data:
        other = data["labels"][table] != data["labels"][queries][:, None]
        table = table.gather(1, other.int().argsort(dim=1, stable=True))
    if reach is None:
        return data["latents"][table[:, :k]]
    generator = torch.Generator().manual_seed(seed)
    picked = torch.rand(len(queries), reach, generator=generator).argsort(1)[:, :k]
    return data["latents"][table.gather(1, picked)]


def decode_bytes(codec: Codec, latents: Tensor, batch: int = 128) -> Tensor:
    """uint8 pictures (N, 3, H, W) on the CPU."""
    device = next(codec.parameters()).device
    with torch.inference_mode():
        parts = [to_bytes(codec.decode(part.to(device))).cpu() for part in latents.split(batch)]
    return torch.cat(parts)
