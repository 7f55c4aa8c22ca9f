"""Whether the blocks of an image belong together, borders aside."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from rissole.data.photos import to_float
from rissole.evaluation.augmentation import blurred, jitter_colors
from rissole.evaluation.copies import thumbnails
from rissole.evaluation.distances import interval
from rissole.evaluation.network import resize


class CoherenceProbe(nn.Module):
    """Small CNN that tells photos from photos with foreign blocks; higher means less coherent.

    The pixels at block borders are hidden from it: seams are measured by `seam_ratio`, the
    probe shall look at what lies on both sides of them.

    Args:
        grid: Blocks per side.
        width: Channels of the first layer.
        seed: Of the weights.
    """

    hidden = 3  # pixels each side of a border, of 128
    resolution = 64

    def __init__(self, grid: int = 4, width: int = 24, seed: int = 0):
        super().__init__()
        self.grid = grid
        plan = [(3, 1, 2), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 4, 2), (4, 4, 1)]
        layers = [_layer(i if i == 3 else i * width, o * width, stride) for i, o, stride in plan]
        # Flattened, not pooled: left and right have to be compared.
        last = nn.Linear(64 * width, 1)
        self.net = nn.Sequential(*layers, nn.Flatten(), last)
        generator = torch.Generator().manual_seed(seed)
        for part in self.net.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, generator=generator)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) that images (B, 3, H, W) in [-1, 1] contain foreign blocks."""
        return self.net(resize(self._hide_borders(resize(images, 128)), self.resolution))[:, 0]

    def _hide_borders(self, images: Tensor) -> Tensor:
        distance = torch.arange(128, device=images.device) + 0.5
        near = torch.zeros(128, dtype=torch.bool, device=images.device)
        for i in range(1, self.grid):
            near |= (distance - 128 * i / self.grid).abs() < self.hidden
        return images.masked_fill(near[:, None] | near, 0)

    @torch.no_grad()
    def scores(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Logits (N,) on the CPU for images, uint8 or float in [-1, 1], on any device."""
        self.eval()
        device = next(self.parameters()).device
        return torch.cat([self(to_float(x.to(device))).cpu() for x in images.split(batch_size)])


def _layer(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def train_probe(
    photos: Tensor,
    *,
    grid: int = 4,
    steps: int = 300,
    batch_size: int = 64,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> CoherenceProbe:
    """Trains a probe: each batch holds photos, and the same photos with neighbors' blocks.

    Args:
        photos: (N, 3, S, S) real photos, uint8 or float.
        grid: Blocks per side.
        steps: Training steps; 300 take some 3 minutes on 2 CPU cores, seconds on a GPU.
        batch_size: Photos per step.
        seed: Of weights and batches.
        device: Where to train.
    """
    probe = CoherenceProbe(grid, seed=seed).to(device).train()
    photos, neighbors = photos.to(device), nearest_photos(photos, device=device).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc="coherence probe", leave=False, disable=None):
        picks = torch.randint(len(photos), (batch_size,), generator=generator, device=device)
        swapped = swap_blocks(photos, picks, neighbors, grid, generator)
        pair = _vary(to_float(photos[picks]), to_float(swapped), generator)
        target = torch.arange(2, device=device).repeat_interleave(len(picks)).float()
        loss = F.binary_cross_entropy_with_logits(probe(pair), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe.eval()


def nearest_photos(
    photos: Tensor, k: int = 8, count: int | None = None, device: str | torch.device = "cpu"
) -> Tensor:
    """Indices (N, k) of each photo's nearest others by cosine of 8x8 thumbnails.

    Near duplicates (cosine above 0.97, the next frame of the same cat) are left out: a block of
    one would be called foreign and look at home.

    Args:
        photos: (N, 3, S, S).
        k: How many of each.
        count: Only for so many photos, the first ones.
        device: Where they are compared, some hundred at a time.
    """
    thumbs = thumbnails(photos, 8).flatten(1).to(device)
    thumbs = F.normalize(thumbs - thumbs.mean(dim=1, keepdim=True), dim=1)
    found = []
    for rows in torch.arange(len(thumbs) if count is None else count, device=device).split(512):
        similarity = thumbs[rows] @ thumbs.T
        similarity = similarity.masked_fill(similarity > 0.97, -1).scatter(1, rows[:, None], -2)
        found.append(similarity.topk(min(k, len(photos) - 1), dim=1).indices.cpu())
    return torch.cat(found)


def swap_blocks(
    photos: Tensor, picks: Tensor, neighbors: Tensor, grid: int, generator: torch.Generator
) -> Tensor:
    """The picked photos with 1/10 to 6/10 of their blocks (at least one) from their neighbors.

    Args:
        photos: (N, 3, S, S).
        picks: (B,) indices of the photos to change.
        neighbors: (N, k) indices of each photo's neighbors; each block draws its own.
        grid: Blocks per side.
        generator: On the device of `photos`.
    """
    count, size, device = len(picks), photos.shape[-1], photos.device
    draw = torch.empty(count, 1, grid, grid, device=device).uniform_(generator=generator)
    share = torch.empty(count, 1, 1, 1, device=device).uniform_(0.1, 0.6, generator=generator)
    foreign = (draw < share) | (draw == draw.amin(dim=(2, 3), keepdim=True))
    shape = (count, grid, grid)
    choice = torch.randint(neighbors.shape[1], shape, generator=generator, device=device)
    owner = neighbors[picks[:, None, None], choice]
    owner = torch.where(foreign[:, 0], owner, picks[:, None, None])
    cell = torch.arange(size, device=device) * grid // size  # pixel -> block
    y, x = torch.arange(size, device=device)[:, None], torch.arange(size, device=device)
    pixel_owner = owner[:, cell[:, None], cell]
    return photos.permute(0, 2, 3, 1)[pixel_owner, y, x].permute(0, 3, 1, 2)


def _vary(real: Tensor, swapped: Tensor, generator: torch.Generator) -> Tensor:
    """Both batches, one after the other, under the same random mirror, colors and softness.

    Generated images are a little softer and paler than photos. Without this the probe would take
    that for a sign.
    """
    count, device = len(real), real.device
    both = torch.cat([real, swapped], dim=1)  # as channels: the same change for both
    mirror = torch.empty(count, 1, 1, 1, device=device).uniform_(generator=generator) < 0.5
    both = torch.where(mirror, both.flip(-1), both)
    soft = torch.empty(count, 1, 1, 1, device=device).uniform_(generator=generator)
    both = torch.lerp(both, blurred(both, 1.0), soft)
    state = generator.get_state()
    real = jitter_colors(both[:, :3], generator)
    generator.set_state(state)
    return torch.cat([real, jitter_colors(both[:, 3:], generator)])


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a random positive score exceeds a random negative one; ties count half."""
    ordered = negative.sort().values
    positive = positive.contiguous()
    below, up_to = (torch.searchsorted(ordered, positive, right=r) for r in (False, True))
    return float((below + up_to).double().mean() / (2 * len(negative)))


def auc_interval(positive: Tensor, negative: Tensor, seed: int = 0) -> list[float]:
    """95 % interval of `auc`; both sides are samples, and the smaller one errs more."""
    value = auc(positive, negative)
    tops = (
        interval(lambda i: auc(positive[i], negative), len(positive), seed=seed)[1],
        interval(lambda i: auc(positive, negative[i]), len(negative), seed=seed)[1],
    )
    error = math.hypot(*(top - value for top in tops))  # independent: their variances add up
    return [value - error, value + error]


def probe_coherence(
    probe: CoherenceProbe, images: Tensor, held_out: Tensor, training: Tensor, seed: int = 0
) -> dict[str, float | list[float] | int]:
    """Compares images with real photos under a trained probe.

    Args:
        probe: From `train_probe`.
        images: (N, 3, H, W) images to judge.
        held_out: (M, 3, S, S) real photos that the probe has not seen.
        training: (K, 3, S, S) real photos that lend blocks to them for `auc_swapped`.
        seed: Of the blocks swapped into the held-out photos.

    Returns:
        `auc` of images against photos (0.5: as coherent as photos; 1: each looks patched),
        its interval `auc_ci95`, `auc_swapped` of photos with swapped blocks against photos
        (how well the probe can tell at all), and `auc_photos`, one half of the photos against
        the other (0.5 but for chance).
    """
    generator = torch.Generator().manual_seed(seed)
    held, everyone = held_out.cpu(), torch.cat([held_out.cpu(), training.cpu()])
    device = next(probe.parameters()).device
    neighbors = nearest_photos(everyone, count=len(held), device=device)
    swapped = swap_blocks(everyone, torch.arange(len(held)), neighbors, probe.grid, generator)
    real, fake, patched = (probe.scores(x) for x in (held, images, swapped))
    return {
        "auc": auc(fake, real),
        "auc_ci95": auc_interval(fake, real, seed),
        "auc_swapped": auc(patched, real),
        "auc_photos": auc(real[::2], real[1::2]),
        "n_held_out": len(held),
    }
