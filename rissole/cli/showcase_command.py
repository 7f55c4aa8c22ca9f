"""`rissole showcase`: the painting that a bundle's page opens with."""

from __future__ import annotations

from typing import Annotated

import typer

from rissole.cli import options

Item = Annotated[
    int | None,
    typer.Option(help="Database picture to search with.", show_default="a random one of the seed"),
]
Seed = Annotated[int, typer.Option(help="Seed of the picture.")]
Name = Annotated[str, typer.Argument(help="Bundle: a folder, or the name of a bundled one.")]


def showcase(bundle: Name, item: Item = None, seed: Seed = 0) -> None:
    """Paint the picture that a bundle's page opens with, and store all its steps in the bundle."""
    options.check_seeds(seed, 1)
    from rissole.app.showcase import FILE, add_showcase

    made = add_showcase(bundle, item, seed)
    typer.echo(
        f"{FILE}: picture {made.item}, seed {made.recipe.seed}, {len(made.messages)} steps, "
        f"{len(made.content):,} bytes"
    )
