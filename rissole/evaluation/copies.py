"""Whether images are copies of training photos, as a whole or block by block."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.data.photos import to_float
from rissole.evaluation.network import AnyNetwork


def thumbnails(images: Tensor, size: int = 16) -> Tensor:
    """Images averaged down to (N, 3, size, size), on the CPU."""
    return torch.cat([F.adaptive_avg_pool2d(to_float(x), size).cpu() for x in images.split(512)])


def nearest(
    queries: Sequence[Tensor], training: Tensor, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Distance (N,) to, and index (N,) of, the nearest training item.

    Args:
        queries: (N, D) embeddings of the images, and of their mirror images, and so on; the
            nearest of all counts.
        training: (M, D) embeddings of the training photos.
        device: Where they are compared.

    Returns:
        Root mean square difference per dimension, and indices into `training`.
    """
    best = [_nearest_one(query.to(device), training.to(device)) for query in queries]
    distance, which = torch.stack([d for d, _ in best]).min(dim=0)
    index = torch.stack([i for _, i in best]).gather(0, which[None])[0]
    return distance.cpu(), index.cpu()


def _nearest_one(query: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Searches by the fast cdist, then measure exactly: its rounding keeps copies away from 0."""
    parts = query.split(1024)  # against 50,000 photos 200 MB at a time
    index = torch.cat([torch.cdist(part, training).argmin(dim=1) for part in parts])
    return (query - training[index]).square().mean(dim=1).sqrt(), index


def copies(
    images: Tensor,
    training: Tensor,
    held_out: Tensor,
    features: AnyNetwork | None = None,
    grid: int = 4,
) -> dict[str, dict]:
    """Distances to the nearest training photo, mirror images included.

    Args:
        images: (N, 3, H, W) images to judge.
        training: (M, 3, S, S) photos the generator was trained on.
        held_out: (K, 3, S, S) photos it was not trained on: how near is near by chance.
        features: Adds distances in this network's feature space.
        grid: Blocks per side of the comparison block by block.

    Returns:
        Per space (`pixel`: 16x16 thumbnails, `feature`, `block`: blocks at the same position
        in thumbnails of 8x8 each): `median` and `median_held_out` distance, `p01_held_out`,
        and `share` of images (blocks) closer than that, 0.01 by chance. Whole-image spaces
        list the `closest` pairs as [image, training photo, distance].
    """
    device = features.device if features is not None else torch.device("cpu")
    made, base, held = (with_mirror(thumbnails(x)) for x in (images, training, held_out))
    result = {"pixel": _compare(made, base, held, device)}
    if features is not None:
        pairs = [(features.extract(x), features.extract(x.flip(-1))) for x in (images, held_out)]
        result["feature"] = _compare(pairs[0], (features.extract(training),), pairs[1], device)
    small = [thumbnails(x, 8 * grid) for x in (images, training, held_out)]
    result["block"] = _block_copies(small, grid, device)
    return result


def with_mirror(thumbs: Tensor) -> tuple[Tensor, Tensor]:
    """Flat thumbnails (N, D), and those of the mirror images."""
    return thumbs.flatten(1), thumbs.flip(-1).flatten(1)


def _compare(
    images: Sequence[Tensor],
    training: Sequence[Tensor],
    held: Sequence[Tensor],
    device: str | torch.device,
) -> dict:
    distance, index = nearest(images, training[0], device)
    baseline, _ = nearest(held, training[0], device)
    order = distance.argsort()[:8].tolist()
    closest = [[i, int(index[i]), float(distance[i])] for i in order]
    return {**_summary(distance, baseline), "closest": closest}


def _summary(distance: Tensor, baseline: Tensor) -> dict[str, float]:
    limit = baseline.double().quantile(0.01)
    return {
        "median": float(distance.median()),
        "median_held_out": float(baseline.median()),
        "p01_held_out": float(limit),
        "share": float((distance < limit).double().mean()),
    }


def _block_copies(
    small: Sequence[Tensor], grid: int, device: str | torch.device
) -> dict[str, float]:
    """The same for blocks against blocks at their position; limits are per position.

    Args:
        small: thumbnails of images, training photos and held-out ones.
        grid: blocks per side, 8x8 pixels each.
        device: where they are compared.
    """
    parts = []
    for row, column in itertools.product(range(grid), repeat=2):
        images, training, held = (_cut(x, row, column) for x in small)
        near = (nearest(x, training[0], device)[0] for x in (images, held))
        parts.append(_summary(*near))
    return {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}


def _cut(thumbs: Tensor, row: int, column: int) -> tuple[Tensor, Tensor]:
    """Block (row, column), 8x8, of thumbnails and of their mirror images."""
    window = (..., slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
    return thumbs[window].flatten(1), thumbs.flip(-1)[window].flatten(1)
