"""`rissole evaluate`: measure painted pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.cli import options
from rissole.config import RissoleError

if TYPE_CHECKING:
    from rissole.data.photos import Labelled

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
    from rissole.data.photos import load_labelled
    from rissole.evaluation import network, report

    follow = FOLLOW in parts
    parts = [part for part in parts if part != FOLLOW]
    if follow and not is_bundle(images):
        raise RissoleError(f"{FOLLOW} is measured of a bundle, not of finished pictures")
    report.check_parts(parts)
    if features is None and report.BY_NETWORK & set(parts):
        raise RissoleError("--features is needed to measure features, copies or classes")
    if follow and not parts:
        options.print_report(followed(images, device, seed), as_json)
        return
    painted: str | Labelled = images
    photos: str | Labelled = reference
    if is_bundle(images):  # painting takes long: what is wrong with the rest shall be told before
        options.check_seeds(seed, samples)
        photos = load_labelled(reference, size)
        if features is not None:
            network.load_features(features)
        pipe, by_class = options.load(images, None, device), "classes" in parts
        painted = report.paint_samples(pipe, samples, seed, size, by_class)
    result = report.evaluate(
        painted, photos, features or "", held_out=held_out, size=size, grid=grid, parts=parts,
        seed=seed, device=options.fastest(device),
    )  # fmt: skip
    options.print_report(result | (followed(images, device, seed) if follow else {}), as_json)


def followed(bundle: str, device: str | None, seed: int) -> dict[str, Any]:
    """How far blocks of a bundle's pictures follow neighbors of their own."""
    from rissole.evaluation.following import following

    return {FOLLOW: following(options.load(bundle, None, device), seed=seed)}


def is_bundle(images: str) -> bool:
    """Whether to paint with it: the folder of a bundle, or what is no folder here."""
    return (Path(images) / "manifest.json").is_file() or not Path(images).exists()
