"""How good the neighbors are that query encoders find."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rissole.data.photos import split, to_float
from rissole.evaluation.network import FeatureNetwork
from rissole.models.autoencoder import Codec
from rissole.retrieval.encoders import QueryEncoder


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
        k: neighbors per query; all photos where there are fewer.
        labels: (N,) classes of the photos, if they are known.

    Returns:
        For each encoder, and for `chance`, means over queries and neighbors: `features`, the
        distance by the judge as a share of chance's; `blocks`, the squared difference of each
        latent cell to the best of its k neighbors' in units of the latents' variance; with labels
        `same_class`, the share of neighbors of the query's class.
    """
    device = next(codec.parameters()).device
    base, queries = split(photos)
    k = min(k, len(base))
    latents = [
        torch.cat([codec.encode(to_float(few).to(device)).cpu() for few in part.split(32)])
        for part in (base, queries)
    ]
    distances = torch.cdist(judge.extract(queries), judge.extract(base))
    draw = torch.Generator().manual_seed(0)
    found = {"chance": torch.randint(len(base), (len(queries), k), generator=draw)}
    for encoder in encoders:
        own, other = _vectors(encoder, queries, latents[1]), _vectors(encoder, base, latents[0])
        found[encoder.name] = (own @ other.T).topk(k).indices
    result = {}
    for name, ids in found.items():
        result[name] = {
            "features": (distances.gather(1, ids).mean() / distances.mean()).item(),
            "blocks": _misfit(latents[1], latents[0], ids),
        }
        if labels is not None:
            known, asked = split(labels)
            same = known[ids] == asked[:, None]
            result[name]["same_class"] = same.float().mean().item()
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
