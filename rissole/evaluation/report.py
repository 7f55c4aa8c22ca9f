"""Measuring generated images: do they look real, hold together, and are they new?

`evaluate` reports everything at once; each measure is a function of its own above it.

============  =====================================================================================
Frechet       How far the distribution of features is from that of real photos (FD, KD), and in
              which way: precision (is every image plausible?), recall (is every photo covered?).
Seam ratio    Whether block borders can be seen in the pixels.
Probe         Whether the blocks of an image belong together, borders aside.
Copies        Whether images are copies of training photos, as a whole or block by block.
Classes       Whether images show what they were asked to.
============  =====================================================================================

Images are tensors (N, 3, H, W), uint8 or float in [-1, 1]. No figure means much alone: each comes
with the same figure for real photos that no network was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.images import square
from rissole.data.photos import Labelled, load_labelled, split
from rissole.evaluation.classes import check_classes, class_agreement
from rissole.evaluation.copies import copies
from rissole.evaluation.distances import (
    Gaussian,
    feature_metrics,
    frechet_distance,
    subset,
)
from rissole.evaluation.network import AnyNetwork, FeatureNetwork, load_features
from rissole.evaluation.probe import CoherenceProbe, probe_coherence, train_probe
from rissole.evaluation.seams import check_borders, seam_metrics, seam_ratio
from rissole.pipeline import RissolePipeline

Source = Tensor | Labelled | str | Path
USUAL = ("features", "seams", "probe", "copies")
PARTS = (*USUAL, "classes")
BY_NETWORK = {"features", "copies", "classes"}


def evaluate(
    images: Source,
    reference: Source,
    features: FeatureNetwork | str | Path,
    *,
    held_out: Source | None = None,
    size: int = 128,
    grid: int = 4,
    parts: Sequence[str] = USUAL,
    probe: CoherenceProbe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Measures images against real photos.

    Args:
        images: generated images; for `classes` with the class each was asked for.
        reference: training photos; as images a tensor, or what `load_labelled` reads.
        features: network for distances: itself, a file, or a name that `load_features` knows.
        held_out: photos not trained on; by default split off `reference` as in training.
        size, grid, parts: side in pixels of what is read; blocks per side; which of `PARTS`.
        probe, seed, device: one that is trained; of everything random; where networks run.

    Returns:
        Figures of each part; in `photos` the same ones of the held-out photos, the floor.

    Raises:
        RissoleError: Unknown part, unreadable source, too few images.
    """
    check_parts(parts)
    sets = _enough(_loaded(images, size), "image"), *photo_sets(reference, held_out, size)
    made, training, held = (some.photos for some in sets)
    network: Any = _network(features, sets, device) if BY_NETWORK & set(parts) else None
    result: dict[str, Any] = {"n": len(made), "n_training": len(training), "n_held_out": len(held)}
    photos: dict[str, Any] = {"n": len(held)}
    if "features" in parts:
        result["features"], floor = _feature_figures(made, training, held, network, seed)
        photos |= floor
    if "seams" in parts and grid > 1:
        result["seams"] = {"grid": grid, **seam_metrics(made, grid, seed=seed)}
        photos["seam_ratio"] = seam_ratio(held, grid)
    if "probe" in parts and grid > 1:
        probe = probe or train_probe(training, grid=grid, seed=seed, device=device)
        result["probe"] = probe_coherence(probe, made, held, training, seed)
    if "copies" in parts:
        result["copies"] = copies(made, training, held, network, grid)
    if "classes" in parts:
        result["classes"], photos["classes"] = class_agreement(*sets, network)
    return {**result, "photos": photos}


def paint_samples(
    pipe: RissolePipeline, count: int, seed: int, size: int, by_class: bool = False
) -> Labelled:
    """Pictures as `sample` paints them, each from a random item of the database.

    Args:
        pipe: paints, as its bundle ships.
        count: how many.
        seed: of the first; the next has `seed + 1`.
        size: side in pixels.
        by_class: one class of the database after another, with neighbors of that class alone.

    Returns:
        uint8 (count, 3, size, size), and the class each was asked for, if any.

    Raises:
        RissoleError: `by_class` where the database has no classes.
    """
    classes = list(pipe.database.classes) if by_class else []
    if by_class and not classes:
        raise RissoleError("the pictures of this database have no classes to measure")
    pictures, labels = [], []
    for number in tqdm(range(seed, seed + count), "painting", leave=False, disable=None):
        label = (number - seed) % len(classes) if classes else -1
        asked = classes[label] if classes else None
        hits = pipe.retrieve(label=asked, k=pipe.defaults["k"], seed=number)
        pictures += pipe(hits, seed=number).images
        labels.append(label)
    pixels = np.stack([np.asarray(square(picture, size)) for picture in pictures])
    photos = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Labelled(photos, torch.tensor(labels), classes)


def check_parts(parts: Sequence[str]) -> None:
    """Refuses what is none of `PARTS`."""
    if unknown := set(parts) - set(PARTS):
        raise RissoleError(f"no measure {min(unknown)!r}: choose from {', '.join(PARTS)}")


def check_bundle(
    pipe: RissolePipeline,
    parts: Sequence[str],
    training: Labelled,
    held_out: Labelled,
    size: int,
    grid: int,
) -> None:
    """Refuses what cannot be measured of a bundle's pictures, before they are painted.

    Args:
        pipe: of the bundle.
        parts, size, grid: of `evaluate`.
        training, held_out: of `photo_sets`.
    """
    if "seams" in parts and grid > 1:
        check_borders(size, grid)
    if "classes" in parts:
        check_classes([*pipe.database.classes, *held_out.classes], training.classes)


def photo_sets(reference: Source, held_out: Source | None, size: int) -> tuple[Labelled, Labelled]:
    """Training photos and held-out ones, enough of each for the measures by neighbors.

    Args:
        reference, held_out, size: of `evaluate`, which takes the two results in place of the first.

    Raises:
        RissoleError: unreadable source, too few photos.
    """
    photos = _loaded(reference, size)
    if held_out is None:
        halves = zip(split(photos.photos), split(photos.labels), strict=True)
        training, held = (Labelled(*half, photos.classes) for half in halves)
    else:
        training, held = photos, _loaded(held_out, size)
    return _enough(training, "training photo"), _enough(held, "held-out photo")


def _loaded(source: Source, size: int) -> Labelled:
    if isinstance(source, Tensor):
        return Labelled(source, torch.full((len(source),), -1), [])
    return source if isinstance(source, Labelled) else load_labelled(source, size)


def _enough(some: Labelled, what: str) -> Labelled:
    if (count := len(some.photos)) < 5:
        raise RissoleError(f"too few to measure: {count} {what}(s), at least 5 are needed")
    return some


def _network(
    features: FeatureNetwork | str | Path, sets: Sequence[Labelled], device: str | torch.device
) -> AnyNetwork:
    """What looks at some sets of pictures; at all of them alike, as the smallest need it."""
    return load_features(features, device, size=min(some.photos.shape[-1] for some in sets))


def _feature_figures(
    images: Tensor, training: Tensor, held: Tensor, network: FeatureNetwork, seed: int
) -> tuple[dict, dict]:
    """Metrics of the images, and those of the held-out photos as their floor.

    Of the floor `fd_images_at_n` is the images' distance at the photos' smaller count, to compare.
    """
    made, real, kept = (network.extract(x) for x in (images, training, held))
    result = feature_metrics(made, real, network.name, seed=seed)
    floor = feature_metrics(kept, real, network.name, seed=seed)
    count = min(len(made), len(kept))
    generator = torch.Generator().manual_seed(seed)
    fitted = Gaussian.fit(real)
    equal = [frechet_distance(subset(made, count, generator), fitted) for _ in range(5)]
    return result, {"features": floor, "fd_images_at_n": sum(equal) / len(equal)}
