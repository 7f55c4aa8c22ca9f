"""Which of many painted pictures a gallery keeps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.data.photos import split
from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import nearest, thumbnails, with_mirror
from rissole.evaluation.network import AnyNetwork, FeatureNetwork


def select(
    images: Tensor,
    photos: Tensor,
    network: FeatureNetwork,
    count: int,
    kinds: tuple[Tensor, Tensor] | None = None,
    near_share: float = 0.01,
    judge: AnyNetwork | None = None,
    defects: Tensor | None = None,
) -> tuple[Tensor, dict[str, float | str]]:
    """Numbers of the pictures to keep, and figures.

    Args:
        images, photos: uint8 (N, 3, S, S).
        network: tells what is too near to a photo, and what alike.
        count: pictures to keep.
        kinds: classes of the images, and of the photos split off for training.
        near_share: see `too_near`.
        judge: tells what looks real; the network by default.
        defects: (N,), higher where a clear one is more likely; they count as much as realism.
    """
    judge = judge or network
    train, held = split(photos)
    features, real = network.extract(images), network.extract(train)
    seen = features if judge is network else judge.extract(images)
    looked_at = real if judge is network else judge.extract(train)
    near = too_near(images, features, train, held, network, near_share)
    own, known = kinds or (torch.zeros(len(images)).long(), torch.zeros(len(photos)).long())
    known = known[: len(train)]
    looks = LinearClassifier.fit(real, known).margin(features, own) if kinds else None
    classes, score, chosen = own.unique().tolist(), torch.zeros(len(images)), []
    for kind in classes:
        mine = (own == kind).nonzero()[:, 0]
        score[mine] = realism(seen[mine], looked_at[known == kind])
        rank = score[mine] if defects is None else worth(score[mine], defects[mine])
        allowed, wanted = ~near[mine], count // len(classes)
        if looks is not None:
            allowed &= most(looks[mine].masked_fill(~allowed, -torch.inf), wanted)
        chosen.append(mine[choose(rank, features[mine], allowed, wanted)])
    kept = torch.stack(chosen, dim=1).flatten()  # the best of every class first
    return kept, {
        "candidates": len(images),
        "too_near_to_a_photo": int(near.sum()),
        "mean_realism_of_candidates": score.mean().item(),
        "mean_realism_of_gallery": score[kept].mean().item(),
        "mean_realism_of_held_out_photos": realism(judge.extract(held), looked_at).mean().item(),
        "judge": judge.name,
        **mean_defects(defects, kept),
    }


def worth(real: Tensor, defects: Tensor) -> Tensor:
    """How good pictures (N,) are: what looks real counts as much as what has no defect.

    By their places in both orders, which a few odd values do not move.
    """
    places = [values.unique(return_inverse=True)[1].float() for values in (real, defects)]
    looks, flaws = (place / place.max().clamp(min=1) for place in places)
    return looks - flaws


def mean_defects(defects: Tensor | None, kept: Tensor) -> dict[str, float]:
    """Means of how many clear defects to expect (N,), if that is known."""
    if defects is None:
        return {}
    means = {"candidates": defects, "gallery": defects[kept]}
    return {f"mean_defects_of_{name}": x.mean().item() for name, x in means.items()}


def too_near(
    images: Tensor,
    features: Tensor,
    photos: Tensor,
    held: Tensor,
    network: FeatureNetwork,
    share: float = 0.01,
) -> Tensor:
    """bool (N,): nearer to a training photo than all but a share of held-out photos are.

    Judged by 16x16 thumbnails and by features, mirror images included.

    Args:
        share: 1 % by default; more where a data set holds many photos twice, so that those do
            not set the limit.
    """
    flags = torch.zeros(len(images), dtype=torch.bool)
    small = [with_mirror(thumbnails(x)) for x in (images, held)]
    vectors = [
        (features, network.extract(images.flip(-1))),
        (network.extract(held), network.extract(held.flip(-1))),
    ]
    bases = (thumbnails(photos).flatten(1), network.extract(photos))
    for (own, chance), base in zip((small, vectors), bases, strict=True):
        limit = nearest(chance, base, network.device)[0].quantile(share)
        flags |= nearest(own, base, network.device)[0] < limit
    return flags


def realism(features: Tensor, real: Tensor, k: int = 5) -> Tensor:
    """How deep pictures lie in the manifold of real photos (arXiv 1904.06991, eq. 3).

    Of very many photos some 10,000 are looked at.

    Args:
        features: (N, D) of pictures; real: (M, D) of photos.

    Returns:
        (N,), above 1 inside; photos in thin regions, the larger half of the radii, do not count.
    """
    real = real[:: -(-len(real) // 10_000)]
    radii = torch.cdist(real, real).kthvalue(min(k + 1, len(real)), dim=1).values
    dense = radii <= radii.median()
    distance = torch.cdist(features, real[dense])
    return (radii[dense] / distance.clamp(min=1e-9)).amax(1)


def most(values: Tensor, count: int) -> Tensor:
    """Which (N,) of the values are in the upper half, or among the first `count` if more."""
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[values.argsort(descending=True)[: max(count, len(values) // 2)]] = True
    return chosen


def choose(score: Tensor, features: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Numbers of `count` pictures of high score, no two alike.

    Leaves out the lowest quarter where it can, then goes down the scores and skips what is nearer
    to a chosen picture than a limit, which shrinks until enough are found.

    Raises:
        RissoleError: when fewer than `count` are allowed.
    """
    total = int(allowed.sum())
    if total < count:
        raise RissoleError(f"only {total} of {len(score)} pictures may be kept")
    ranked = score.masked_fill(~allowed, -torch.inf).argsort(descending=True)
    ranked = ranked[: max(count, total * 3 // 4)]
    distance = torch.cdist(features, features)
    among = distance[ranked][:, ranked]
    apart = among[~torch.eye(len(among), dtype=torch.bool)].numpy()
    limit = float(np.quantile(apart, 0.1)) if len(apart) else 0.0
    while True:
        chosen = first_apart(ranked, distance, limit, count)
        if len(chosen) == count:
            return chosen
        limit = limit * 0.9 if limit > 1e-6 else 0.0  # identical pictures never get apart


def first_apart(ranked: Tensor, distance: Tensor, limit: float, count: int) -> Tensor:
    """The first `count` of the ranked numbers that lie `limit` apart."""
    chosen: list[int] = []
    gap = torch.full((len(distance),), torch.inf)
    for number in ranked.tolist():
        if len(chosen) < count and gap[number] >= limit:
            chosen.append(number)
            gap = torch.minimum(gap, distance[number])
    return torch.tensor(chosen)
