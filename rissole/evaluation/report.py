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
from rissole.data.photos import load_photos, split
from rissole.evaluation.copies import copies
from rissole.evaluation.distances import (
    Gaussian,
    feature_metrics,
    frechet_distance,
    interval,
    subset,
)
from rissole.evaluation.network import FeatureNetwork, load_features
from rissole.evaluation.probe import CoherenceProbe, probe_coherence, train_probe
from rissole.evaluation.seams import seam_jumps, seam_ratio
from rissole.pipeline import RissolePipeline

Source = Tensor | str | Path
PARTS = ("features", "seams", "probe", "copies")


def evaluate(
    images: Source,
    reference: Source,
    features: FeatureNetwork | str | Path,
    *,
    held_out: Source | None = None,
    size: int = 128,
    grid: int = 4,
    parts: Sequence[str] = PARTS,
    probe: CoherenceProbe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict:
    """Measures images against real photos.

    Args:
        images: Generated images: a tensor, or a folder of pictures.
        reference: Training photos: a tensor, a folder, or a parquet file or folder of such.
        features: Network for distances: itself, a file, or a name in `EXTRACTORS`.
        held_out: Photos that no network was trained on. By default split off `reference` in
            the way that training does.
        size: Side in pixels to which folders are read.
        grid: Blocks per side, for seams, probe and copies.
        parts: What to measure, of `PARTS`.
        probe: A trained probe, to save its training when many sets are measured.
        seed: Of everything random.
        device: Where networks run.

    Returns:
        Nested dict, ready for JSON: `features` (`feature_metrics`), `seams`,
        `probe` (`probe_coherence`), `copies` (`copies`, photos numbered as in
        the training part of `reference`); `photos` holds the same
        figures for the held-out photos, the floor (`fd_images_at_n`: the images' FD at the
        photos' smaller count, to compare with).

    Raises:
        RissoleError: Unknown part, unreadable source, too few images.
    """
    check_parts(parts)
    training = _load(reference, size)
    training, held = split(training) if held_out is None else (training, _load(held_out, size))
    images = _load(images, size)
    _check_counts(images, training, held)
    network: Any = load_features(features, device) if {"features", "copies"} & set(parts) else None
    result: dict[str, Any] = {
        "n": len(images),
        "n_training": len(training),
        "n_held_out": len(held),
    }
    result["photos"] = {"n": len(held)}
    if "features" in parts:
        result["features"], floor = _measure_features(images, training, held, network, seed)
        result["photos"] |= floor
    if "seams" in parts and grid > 1:
        result["seams"] = _measure_seams(images, grid, seed)
        result["photos"]["seam_ratio"] = seam_ratio(held, grid)
    if "probe" in parts and grid > 1:
        probe = probe or train_probe(training, grid=grid, seed=seed, device=device)
        result["probe"] = probe_coherence(probe, images, held, training, seed)
    if "copies" in parts:
        result["copies"] = copies(images, training, held, network, grid)
    return result


def paint_samples(pipe: RissolePipeline, count: int, seed: int, size: int) -> Tensor:
    """Pictures as `sample` paints them, each from a random item of the database.

    Args:
        pipe: paints, as its bundle ships.
        count: how many.
        seed: of the first; the next has `seed + 1`.
        size: side in pixels.

    Returns:
        uint8 (count, 3, size, size).
    """
    pictures = []
    for number in tqdm(range(seed, seed + count), "painting", leave=False, disable=None):
        pictures += pipe(pipe.retrieve(k=pipe.defaults["k"], seed=number), seed=number).images
    pixels = np.stack([np.asarray(square(picture, size)) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def check_parts(parts: Sequence[str]) -> None:
    """Refuses what is none of `PARTS`."""
    if unknown := set(parts) - set(PARTS):
        raise RissoleError(f"no measure {min(unknown)!r}: choose from {', '.join(PARTS)}")


def _load(source: Source, size: int) -> Tensor:
    return source if isinstance(source, Tensor) else load_photos(source, size)


def _check_counts(images: Tensor, training: Tensor, held: Tensor) -> None:
    """The neighbors in several measures set the smallest useful counts."""
    for what, photos in (("image", images), ("training photo", training), ("held-out photo", held)):
        if len(photos) < 5:
            raise RissoleError(
                f"too few to measure: {len(photos)} {what}(s), at least 5 are needed"
            )


def _measure_features(
    images: Tensor, training: Tensor, held: Tensor, network: FeatureNetwork, seed: int
) -> tuple[dict, dict]:
    """Metrics of the images, and those of the held-out photos as their floor."""
    made, real, kept = (network.extract(x) for x in (images, training, held))
    result = feature_metrics(made, real, network.name, seed=seed)
    floor = feature_metrics(kept, real, network.name, seed=seed)
    count = min(len(made), len(kept))
    generator = torch.Generator().manual_seed(seed)
    fitted = Gaussian.fit(real)
    equal = [frechet_distance(subset(made, count, generator), fitted) for _ in range(5)]
    return result, {"features": floor, "fd_images_at_n": sum(equal) / len(equal)}


def _measure_seams(images: Tensor, grid: int, seed: int) -> dict:
    at, beside = seam_jumps(images, grid)
    spread = interval(lambda i: float(at[i].sum() / beside[i].sum()), len(at), seed=seed)
    return {"grid": grid, "seam_ratio": float(at.sum() / beside.sum()), "seam_ratio_ci95": spread}
