"""`rissole trained-on`: tell a bundle which photos it was trained on."""

from __future__ import annotations

from typing import Annotated

import typer

from rissole.cli import options

Name = Annotated[str, typer.Argument(help="Bundle: a folder, or the name of a bundled one.")]
Data = Annotated[
    str,
    typer.Option(help="The photos it was trained on: a folder, parquet file(s) or owner/name."),
]


def trained_on(bundle: Name, data: Data, device: options.Device = None) -> None:
    """Store 64 numbers of each photo that a bundle was trained on, and no photo, in the bundle.

    Its page then says how near a picture is to the nearest of them.
    """
    from rissole.retrieval.training_photos import FILE
    from rissole.training.trained_on import note_training_photos

    found = note_training_photos(bundle, data, options.fastest(device))
    usual = found.usual.median().item()
    typer.echo(
        f"{FILE}: {len(found.means):,} photos; {len(found.usual):,} that were held out are "
        f"{usual:.2f} from the nearest of them (median)"
    )
