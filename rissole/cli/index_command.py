"""`rissole index`: a retrieval database of one's own pictures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rissole.cli import options
from rissole.config import RissoleError
from rissole.data.items import read_names

if TYPE_CHECKING:
    from rissole.data.items import Source as Pictures
    from rissole.retrieval.building import IndexReport

Source = Annotated[
    str,
    typer.Argument(
        help="A folder of pictures, a parquet file, a folder of such or of `save_to_disk`, or "
        "owner/name of a data set on the Hub."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder to write; give it to --database afterwards.", show_default="needed"),
]
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
Split = Annotated[
    str | None,
    typer.Option(
        help="Part of a data set, such as test.", show_default="all of a folder, train on the Hub"
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a data set.", show_default="the newest"),
]
Duplicates = Annotated[
    bool, typer.Option("--keep-duplicates", help="Keep pictures that are there already.")
]
LeaveOut = Annotated[
    Path | None,
    typer.Option(
        help="A text file with names of files that are not taken, one a line; what follows a tab "
        "is a remark.",
        show_default="none",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Name every file that would be left out; write nothing."),
]


def index(
    source: Source,
    out: Out = None,
    bundle: options.Bundle = "cats-128",
    label: Label = None,
    only: Only = None,
    limit: Limit = None,
    split: Split = None,
    revision: Revision = None,
    keep_duplicates: Duplicates = False,
    leave_out: LeaveOut = None,
    dry_run: DryRun = False,
    encoder: options.Encoder = None,
    clip: options.Clip = None,
    device: options.Device = None,
) -> None:
    """Make a retrieval database of your own pictures, to guide the model in place of its gallery.

    Duplicates and what is no picture are left out and listed with the reason. A build that was
    cut off goes on where it was. The result fits all bundles with the same autoencoder.
    """
    if limit is not None and limit < 1:
        raise RissoleError(f"--limit must be above 0, not {limit}")
    if out is None and not dry_run:
        raise RissoleError("--out is needed: the folder to write")
    from rissole.data.sources import open_source

    names = frozenset() if leave_out is None else read_names(leave_out)
    if out is not None:
        options.check_folder(out)
    pictures = open_source(source, split, revision)
    if out is None or dry_run:
        return look(pictures, limit)
    from rissole.retrieval.building import build_index

    pipe = options.load(bundle, None, device, encoder=encoder, clip=clip)
    report = build_index(
        pipe.indexing_parts(),
        pictures,
        out,
        label=label,
        only=only,
        limit=limit,
        keep_duplicates=keep_duplicates,
        leave_out=names,
    )
    if report.pictures:  # one of several processes reports
        print_index(report, out, len(names))
    return None


def look(pictures: Pictures, limit: int | None) -> None:
    """Names every file that would be left out, and why."""
    from tqdm import tqdm

    from rissole.data.items import LeftOut
    from rissole.data.reading import read_square

    left_out, count = list(pictures.left_out), 0
    for item in islice(tqdm(pictures.items(), "reading", pictures.total, disable=None), limit):
        read = read_square(item, 8)
        if isinstance(read, LeftOut):
            left_out.append(read)
        else:
            count += 1
    for name, reason in left_out:
        typer.echo(f"{name}: {reason}")
    typer.echo(f"{count:,} pictures, {len(left_out):,} left out; nothing written")


def print_index(report: IndexReport, out: Path, names: int) -> None:
    """What was taken, how fast, what was left out; and how many names on a list are of nothing."""
    from rissole.data.items import summary

    if told := summary(report.skipped, str(out / "left-out.json")):
        typer.echo(told, err=True)
    if (missing := names - report.listed) > 0:
        typer.echo(f"{missing} of {names} names on the list are of no picture here", err=True)
    rate = (report.pictures + report.duplicates - report.resumed_at) / max(report.seconds, 1e-9)
    left_out = f"{report.duplicates:,} duplicates and {len(report.skipped):,} other files left out"
    resumed = f", resumed after {report.resumed_at:,}" if report.resumed_at else ""
    typer.echo(
        f"{report.pictures:,} pictures in {report.seconds:.1f} s ({max(rate, 0):.0f} a second), "
        f"{report.bytes / 1e6:.1f} MB; {left_out}{resumed}"
    )
    typer.echo(f"use it with --database {out}")
