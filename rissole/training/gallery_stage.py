"""Stage 4: the gallery a bundle carries, synthesized so that no photo needs to be shipped.

The model paints many pictures, each guided by neighbors of a training photo. Those too near to a
photo are dropped; of the rest the most realistic are kept, no two of them alike.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import SchedulerMixin
from torch import Tensor
from tqdm import tqdm

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, RissoleError
from rissole.data.photos import split
from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import nearest, thumbnails, with_mirror
from rissole.evaluation.network import FeatureNetwork, to_bytes
from rissole.loading import fast_dtype, write_bundle
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.retrieval.database import build_database, decode_all
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LearnedEncoder
from rissole.sampling import Plan, canvas_noise, paint
from rissole.storage.manifest import write_manifest
from rissole.storage.staging import staged
from rissole.training.latents_stage import read_latents

DEFAULTS = {
    "order": "parallel",
    "grid": 4,
    "num_inference_steps": NUM_INFERENCE_STEPS,
    "guidance_scale": GUIDANCE_SCALE,
    "k": 8,
}


CPU_BATCH = 16  # pictures; more are no faster on a processor, and a progress bar would stand still


def paint_many(
    model: Denoiser,
    neighbors: Tensor,
    *,
    scheduler: SchedulerMixin | None = None,
    order: str = "parallel",
    grid: int = 4,
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    guidance_scale: float = GUIDANCE_SCALE,
    seed: int = 0,
    batch: int = 128,
) -> Tensor:
    """Paints one picture per row of neighbors, in batches.

    Args:
        neighbors: (N, K, C, S, S) latents; K = 0 paints without any.
        seed: picture i has the noise of seed + i.

    Returns:
        Latents (N, C, S, S), float32 on the CPU.
    """
    weights = next(model.parameters())
    scheduler = scheduler or default_scheduler()
    parts, n = [], len(neighbors)
    for start in tqdm(range(0, n, batch), desc="painting", unit="batch", leave=False, disable=None):
        shown = neighbors[start : start + batch].to(weights.device, weights.dtype)
        b, k = shown.shape[:2]
        if k == 0:  # attention needs a tensor to look away from
            shown = shown.new_zeros(b, 1, *shown.shape[2:])
        with torch.inference_mode():
            features = model.encode_neighbors(shown)
        visible = torch.full((b, grid, grid, max(k, 1)), k > 0, device=weights.device)
        noise = [canvas_noise(seed + start + i, tuple(neighbors.shape[2:])) for i in range(b)]
        plan = Plan(
            torch.stack(noise).to(weights.device), features, visible,
            guidance_scale if k else 1.0, num_inference_steps, order,
        )  # fmt: skip
        for step in paint(model, scheduler, plan):
            last = step.estimate
        parts.append(last.cpu())
    return torch.cat(parts)


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
        chosen = _spread(ranked, distance, limit, count)
        if len(chosen) == count:
            return chosen
        limit = limit * 0.9 if limit > 1e-6 else 0.0  # identical pictures never get apart


def most(values: Tensor, count: int) -> Tensor:
    """Which (N,) of the values are in the upper half, or among the first `count` if more."""
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[values.argsort(descending=True)[: max(count, len(values) // 2)]] = True
    return chosen


def _spread(ranked: Tensor, distance: Tensor, limit: float, count: int) -> Tensor:
    """The first `count` of the ranked numbers that lie `limit` apart."""
    chosen: list[int] = []
    gap = torch.full((len(distance),), torch.inf)
    for number in ranked.tolist():
        if len(chosen) < count and gap[number] >= limit:
            chosen.append(number)
            gap = torch.minimum(gap, distance[number])
    return torch.tensor(chosen)


def paint_gallery(
    run: Path,
    photos: Tensor,
    *,
    count: int = 1024,
    candidates: int = 4096,
    order: str = "parallel",
    grid: int = 4,
    num_inference_steps: int = 40,
    guidance_scale: float = 1.0,
    near_share: float = 0.01,
    device: str = "cuda",
    seed: int = 0,
) -> tuple[Tensor, list[str] | None, dict[str, float]]:
    """Paints candidates and chooses among them.

    Where photos have classes, every class gets as many pictures, judged by its own photos, from the
    half of its candidates that a linear classifier of the photos finds most typical of it.

    Args:
        run: folder of the earlier stages.
        photos: the uint8 photos of those stages.
        count: pictures to keep, of `candidates` painted.
        near_share: see `too_near`.

    Returns:
        Latents (count, C, S, S) in half precision, the class of each, and figures on the choice.
    """
    if candidates < count:
        raise RissoleError(f"{count} pictures cannot be chosen from {candidates} candidates")
    data = read_latents(run, photos)
    denoiser = Denoiser.load(run / "denoiser").to(device, fast_dtype(torch.device(device)))
    codec = Codec.load(run / "autoencoder").to(device)
    network = FeatureNetwork.load(run / "features.safetensors", device)
    queries = _queries(data, candidates, seed)
    latents = paint_many(
        denoiser,
        training_neighbors(data, queries, k=8, seed=seed, reach=24),
        order=order,
        grid=grid,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        seed=seed,
        batch=128 if device.startswith("cuda") else CPU_BATCH,
    )
    kinds = None if "labels" not in data else (data["labels"][queries], data["labels"])
    images = decode_bytes(codec, latents)
    kept, figures = _select(images, photos, network, count, kinds, near_share)
    classes = None
    if kinds is not None:
        names = json.loads((run / "latents" / "classes.json").read_text())
        classes = [names[i] for i in kinds[0][kept].tolist()]
    return latents[kept].half(), classes, figures


def _queries(data: dict[str, Tensor], count: int, seed: int) -> Tensor:
    """Numbers of training pictures at random, as many of each class, one class after another.

    Pictures of a class come again when it has too few.
    """
    generator = torch.Generator().manual_seed(seed)
    if "labels" not in data:
        return torch.randint(len(data["latents"]), (count,), generator=generator)
    kinds = data["labels"].unique()
    kinds = kinds[kinds >= 0]
    order = torch.randperm(len(data["labels"]), generator=generator)
    wanted = torch.arange(count // len(kinds))
    each = [order[data["labels"][order] == kind] for kind in kinds]
    return torch.cat([members[wanted % len(members)] for members in each])


def write_gallery_bundle(
    run: Path,
    latents: Tensor,
    out: Path,
    *,
    name: str = "cats-128",
    label: str = "synthesized pictures",
    card: str | None = None,
    defaults: dict | None = None,
    classes: list[str] | None = None,
) -> None:
    """Writes a complete bundle whose database are the pictures of some latents.

    Args:
        run: folder of the earlier stages; with an `encoder/` the bundle searches by it.
        latents: (N, C, S, S) from `paint_gallery`.
        card: text of the model card, README.md.
        defaults: settings of a run that the bundle ships.
        classes: the class of each picture.
    """
    denoiser = Denoiser.load(run / "denoiser")
    codec = Codec.load(run / "autoencoder")
    embedding = LatentEmbedding.load(run / "latents")
    with torch.inference_mode():
        pictures = decode_all(codec, latents)
    config = {"name": name, "image_size": pictures[0].width, "defaults": defaults or DEFAULTS}
    found_by = embedding
    if (run / "encoder").is_dir():
        found_by = LearnedEncoder.load(run / "encoder")
        config["encoder"] = found_by.name
    with staged(out) as stage:
        write_bundle(stage, codec, denoiser, default_scheduler(), embedding, config, card)
        if isinstance(found_by, LearnedEncoder):
            found_by.save(stage / "encoder")
        build_database(stage / "database", pictures, codec, found_by, label, latents, classes)
        write_manifest(stage, name)


def _select(
    images: Tensor,
    photos: Tensor,
    network: FeatureNetwork,
    count: int,
    kinds: tuple[Tensor, Tensor] | None = None,
    near_share: float = 0.01,
) -> tuple[Tensor, dict[str, float]]:
    """Numbers of the pictures to keep, and figures.

    Args:
        kinds: classes of the images, and of the photos split off for training.
    """
    train, held = split(photos)
    features, real = network.extract(images), network.extract(train)
    near = too_near(images, features, train, held, network, near_share)
    own, known = kinds or (torch.zeros(len(images)).long(), torch.zeros(len(photos)).long())
    known = known[: len(train)]
    looks = LinearClassifier.fit(real, known).margin(features, own) if kinds else None
    classes = own.unique().tolist()
    score, kept = torch.zeros(len(images)), []
    for kind in classes:
        mine = (own == kind).nonzero()[:, 0]
        score[mine] = realism(features[mine], real[known == kind])
        allowed, wanted = ~near[mine], count // len(classes)
        if looks is not None:
            allowed &= most(looks[mine].masked_fill(~allowed, -torch.inf), wanted)
        kept.append(mine[choose(score[mine], features[mine], allowed, wanted)])
    kept = torch.stack(kept, dim=1).flatten()  # the best of every class first
    return kept, {
        "candidates": len(images),
        "too_near_to_a_photo": int(near.sum()),
        "mean_realism_of_candidates": score.mean().item(),
        "mean_realism_of_gallery": score[kept].mean().item(),
        "mean_realism_of_held_out_photos": realism(network.extract(held), real).mean().item(),
    }
