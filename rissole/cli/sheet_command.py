"""`rissole sheet`: a row of pictures for every class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rissole.cli import options

Out = Annotated[Path, typer.Option(help="PNG to write.")]
Columns = Annotated[int, typer.Option(help="Pictures of each class.")]


def sheet(
    bundle: options.Bundle = "cifar10-32",
    out: Out = Path("sheet.png"),
    columns: Columns = 10,
    seed: options.FirstSeed = 0,
    order: options.Order = None,
    grid: options.Grid = None,
    steps: options.Steps = None,
    guidance_scale: options.Guidance = None,
    database: options.Database = None,
    device: options.Device = None,
) -> None:
    """Paint a row of pictures for every class of a database, each from neighbors of that class."""
    options.check_range("--columns", columns, 1, 100)
    options.png_path(out)
    from rissole.data.images import save_png
    from rissole.experiments.sheets import class_sheet

    pipe = options.load(bundle, database, device)
    options.check_seeds(seed, columns * len(pipe.database.classes))
    picture = class_sheet(
        pipe,
        columns=columns,
        seed=seed,
        order=order,
        grid=grid,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
    )
    save_png(picture, out)
    typer.echo(f"{out}  {', '.join(pipe.database.classes)}")
