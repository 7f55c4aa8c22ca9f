"""`rissole compare`: a table of all methods of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rissole.cli import options
from rissole.config import (
    GUIDANCE_SCALE,
    MAX_GUIDANCE_SCALE,
    MAX_STEPS,
    NUM_INFERENCE_STEPS,
    RissoleError,
)

Run = Annotated[Path, typer.Argument(help="Folder of a run, as `train` writes it.")]
Data = Annotated[Path, typer.Option(help="The photos it was trained on.")]
Table = Annotated[
    str, typer.Option(help="methods: against other methods. ablations: against itself.")
]
Samples = Annotated[int, typer.Option(help="Pictures to paint and measure per row.")]
Steps = Annotated[int, typer.Option(help="Denoising steps of the block denoiser.")]
Guidance = Annotated[float, typer.Option(help="Its guidance.")]
Seed = Annotated[int, typer.Option(help="Seed of queries, noise and measures.")]
Costs = Annotated[
    bool, typer.Option("--costs", help="Also time every row, and its memory, on this CPU.")
]


def compare(
    run: Run,
    data: Data,
    table: Table = "methods",
    samples: Samples = 1024,
    steps: Steps = NUM_INFERENCE_STEPS,
    guidance_scale: Guidance = GUIDANCE_SCALE,
    size: options.Size = 128,
    seed: Seed = 0,
    costs: Costs = False,
    device: options.Device = None,
) -> None:
    """Paint with every method of a run and write a table and a picture of them.

    Rows that are there already are kept: an interrupted comparison goes on.
    """
    if table not in ("methods", "ablations"):
        raise RissoleError(f"--table must be methods or ablations, not {table!r}")
    options.check_range("--samples", samples, 16, 100_000)
    options.check_range("--steps", steps, 1, MAX_STEPS)
    options.check_range("--guidance-scale", guidance_scale, 0, MAX_GUIDANCE_SCALE)
    options.check_size(size)
    options.check_seeds(seed)
    if not run.is_dir():
        raise RissoleError(f"no folder of a run: {run}")
    from rissole.data.photos import load_photos
    from rissole.experiments import cases, comparison, tables
    from rissole.experiments import costs as costing

    rows_wanted = getattr(cases, table)(steps, guidance_scale)
    photos, device = load_photos(data, size), options.fastest(device)
    rows = comparison.compare(
        run, photos, rows_wanted, samples=samples, device=device, seed=seed, on_row=print_distance
    )
    if costs:
        costing.add_costs(run, print_cost)
    path = tables.write_report(run, rows_wanted, table)
    if missing := [case.name for case in rows_wanted if case.name not in rows]:
        typer.echo(f"left out, for lack of their models: {', '.join(missing)}", err=True)
    report = path.read_text(encoding="utf-8")
    typer.echo(f"{report}\nwritten to {path} and {path.with_suffix('.png')}")


def print_distance(name: str, row: dict[str, Any]) -> None:
    """What a row that was just painted scores."""
    typer.echo(f"{name}: FD {row['features']['fd']:.2f}")


def print_cost(name: str, row: dict[str, Any]) -> None:
    """What a picture of a row costs."""
    typer.echo(f"{name}: {row['cpu_seconds']:.2f} s an image")
