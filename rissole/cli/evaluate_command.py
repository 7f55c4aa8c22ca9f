"""`rissole evaluate`: measure painted pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.cli import options
from rissole.config import RissoleError

if TYPE_CHECKING:
    from rissole.data.photos import Labelled
    from rissole.pipeline import RissolePipeline

FOLLOW = "influence"

Images = Annotated[
    str,
    typer.Argument(
        help="Folder of painted pictures, as `sample` writes; or a bundle, which paints some "
        "first: its name, its folder, or owner/name on the Hub."
    ),
]
Reference = Annotated[
    str, typer.Option(help="Photos the model was trained on: a folder or parquet file(s).")
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Network that compares pictures: a file made by `train --stage features`; "
        "efficientnet-lite2, which is a package; or inception-v3-compat (FID) and clip-vit-b-32, "
        "which are downloaded.",
        show_default="needed for features, copies and classes",
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(help="Photos not trained on.", show_default="every 20th of the reference"),
]
Measure = Annotated[
    str,
    typer.Option(
        help="What to measure, separated by commas; also `classes`: do pictures show the class "
        "that was asked for? And, of a bundle, `influence`: does a block follow a neighbor that "
        "is given to it alone?"
    ),
]
Size = Annotated[int, typer.Option(help="Side in pixels at which pictures are compared.")]
Grid = Annotated[int, typer.Option(help="Blocks per side whose borders are examined.")]
Samples = Annotated[int, typer.Option(help="How many pictures a bundle paints.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]


def evaluate(
    images: Images,
    reference: Reference,
    features: Features = None,
    held_out: HeldOut = None,
    measure: Measure = "features,seams,probe,copies",
    size: Size = 128,
    grid: Grid = 4,
    samples: Samples = 1024,
    seed: Seed = 0,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure painted pictures: likeness to photos, seams, coherence, copies.

    Every figure comes with the same figure of photos that were not trained on.
    """
    parts = [part.strip() for part in measure.split(",")]
    options.check_size(size)
    options.check_range("--grid", grid, 1, 16)
    options.check_range("--samples", samples, 5, 100_000)
    from rissole.evaluation import following, report

    options.check_seeds(seed, max(samples, following.PAIRS))
    follow = FOLLOW in parts
    parts = [part for part in parts if part != FOLLOW]
    if follow and not is_bundle(images):
        raise RissoleError(f"{FOLLOW} is measured of a bundle, not of finished pictures")
    report.check_parts(parts)
    if features is None and report.BY_NETWORK & set(parts):
        raise RissoleError("--features is needed to measure features, copies or classes")
    how: dict[str, Any] = {"size": size, "grid": grid, "parts": parts}
    pipe = options.load(images, None, device) if is_bundle(images) else None
    if pipe is not None and follow:
        following.check_blocks(pipe)
    sets: tuple[Any, Any, Any] = (images, reference, held_out)
    if pipe is not None and parts:
        sets = painted(pipe, reference, held_out, features, samples, seed, **how)
    result: dict[str, Any] = {}
    if parts:
        how |= {"held_out": sets[2], "seed": seed, "device": options.fastest(device)}
        result = report.evaluate(sets[0], sets[1], features or "", **how)
    if pipe is not None and follow:
        result[FOLLOW] = following.following(pipe, seed=seed)
    options.print_report(result, as_json)


def painted(
    pipe: RissolePipeline,
    reference: str,
    held_out: str | None,
    features: str | None,
    samples: int,
    seed: int,
    **how: Any,
) -> tuple[Labelled, Labelled, Labelled]:
    """What a bundle paints, and the photos to measure it by.

    Painting takes long: what is wrong with the rest is told before.
    """
    from rissole.evaluation import network, report

    if features is not None:
        network.load_features(features, size=how["size"])
    size, parts = how["size"], how["parts"]
    training, held = report.photo_sets(reference, held_out, size)
    report.check_bundle(pipe, training=training, held_out=held, **how)
    return report.paint_samples(pipe, samples, seed, size, "classes" in parts), training, held


def is_bundle(images: str) -> bool:
    """Whether to paint with it: the folder of a bundle, or what is no folder here."""
    return (Path(images) / "manifest.json").is_file() or not Path(images).exists()
