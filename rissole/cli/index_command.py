"""`rissole index`: a retrieval database of one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rissole.cli import options
from rissole.config import RissoleError

if TYPE_CHECKING:
    from rissole.retrieval.building import IndexReport

Source = Annotated[
    str,
    typer.Argument(
        help="A folder of pictures, a parquet file, a folder of such, or owner/name of a data "
        "set on the Hub."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write; give it to --database afterwards.")]
Label = Annotated[
    str | None,
    typer.Option(help="What the pictures are, for people.", show_default="the source's name"),
]
Only = Annotated[
    str | None, typer.Option(help="Take only pictures of this class.", show_default="all")
]
Limit = Annotated[
    int | None, typer.Option(help="Take only the first pictures.", show_default="all")
]
Split = Annotated[str, typer.Option(help="Part of a data set on the Hub.")]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a data set.", show_default="the newest"),
]
Duplicates = Annotated[
    bool, typer.Option("--keep-duplicates", help="Keep pictures that are there already.")
]


def index(
    source: Source,
    out: Out,
    bundle: options.Bundle = "cats-128",
    label: Label = None,
    only: Only = None,
    limit: Limit = None,
    split: Split = "train",
    revision: Revision = None,
    keep_duplicates: Duplicates = False,
    encoder: options.Encoder = None,
    clip: options.Clip = None,
    device: options.Device = None,
) -> None:
    """Make a retrieval database of your own pictures, to guide the model in place of its gallery.

    Duplicates and files that are no pictures are left out and listed. Started again, a build that
    was cut off goes on where it was. The result fits the bundle it is made with, and others with
    the same autoencoder.
    """
    if limit is not None and limit < 1:
        raise RissoleError(f"--limit must be above 0, not {limit}")
    from rissole.data.sources import open_source
    from rissole.retrieval.building import build_index

    pictures = open_source(source, split, revision)
    pipe = options.load(bundle, None, device, encoder=encoder, clip=clip)
    report = build_index(
        pipe.indexing_parts(),
        pictures,
        out,
        label=label,
        only=only,
        limit=limit,
        keep_duplicates=keep_duplicates,
    )
    if report.pictures:  # one of several processes reports
        print_index(report, out)


def print_index(report: IndexReport, out: Path) -> None:
    """What was taken, how fast, and what was left out."""
    for name, reason in report.skipped[:10]:
        named = reason.startswith(Path(name).name)
        typer.echo(f"skipped: {reason}" if named else f"skipped: {name}: {reason}", err=True)
    if len(report.skipped) > 10:
        typer.echo(f"... all {len(report.skipped)} in {out / 'left-out.json'}", err=True)
    rate = (report.pictures + report.duplicates - report.resumed_at) / max(report.seconds, 1e-9)
    left_out = f"{report.duplicates:,} duplicates and {len(report.skipped):,} unreadable left out"
    resumed = f", resumed after {report.resumed_at:,}" if report.resumed_at else ""
    typer.echo(
        f"{report.pictures:,} pictures in {report.seconds:.1f} s ({max(rate, 0):.0f} a second), "
        f"{report.bytes / 1e6:.1f} MB; {left_out}{resumed}"
    )
    typer.echo(f"use it with --database {out}")
