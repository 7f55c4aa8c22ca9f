"""Options that several commands have, and what they are turned into."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.config import MAX_SEED, QUOTED, RissoleError

if TYPE_CHECKING:
    from rissole.pipeline import RissolePipeline

Bundle = Annotated[
    str, typer.Option(help="Model to use: a bundled name, a folder, or owner/name on the Hub.")
]
Database = Annotated[
    str | None,
    typer.Option(
        help="Folder made by `index`, or owner/name of one on the Hub, used in place of the "
        "bundle's own gallery."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.", show_default="the fastest present")
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="What pictures are compared by, such as latent, latent-corner (as first published), "
        "learned or clip; another word lists all there are.",
        show_default="as shipped",
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(
        help="CLIP model that reads text: a name of open_clip such as MobileCLIP2-S0, owner/name "
        "on the Hub, or a folder.",
        show_default="none",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        help="parallel: all blocks at once. sequential: one after another. "
        "independent: blocks do not see each other, as first published.",
        show_default="as shipped",
    ),
]
Grid = Annotated[
    int | None, typer.Option(help="Blocks per side: 1, 2 or 4.", show_default="as shipped")
]
Steps = Annotated[
    int | None,
    typer.Option(help="Denoising steps per block, 1 to 200.", show_default="as shipped"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="0 to 20; 1 is off, more is clearer and less varied, 0 leaves the neighbors out.",
        show_default="as shipped",
    ),
]
Neighbors = Annotated[
    int | None,
    typer.Option("--k", help="How many neighbors to retrieve, 1 to 16.", show_default="as shipped"),
]
FirstSeed = Annotated[int, typer.Option(help="Seed of the first picture; the next has seed + 1.")]
Size = Annotated[int, typer.Option(help="Side in pixels to which photos are cut.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object in place of the table.")
]

COUNTED_ON = 2**32  # more than is added to a seed by any stage: steps, processes, pictures


def check_range(option: str, value: float | None, low: float, high: float) -> None:
    """Refuses a value out of range; None, what was not given, passes."""
    if value is not None and not low <= value <= high:
        raise RissoleError(f"{option} must be from {low:g} to {high:.10g}, not {value}")


def check_seeds(first: int, count: int = COUNTED_ON) -> None:
    """Refuses seeds out of range, the last of several pictures' included, before any work.

    Args:
        first: what was given.
        count: of the seeds from there on; left out where stages and comparisons make their own.
    """
    last = MAX_SEED - (count - 1)
    if not 0 <= first <= last:
        raise RissoleError(f"seed must be from 0 to {last}, not {first}")


def check_size(size: int) -> None:
    """Refuses pictures too small or too large to work with."""
    check_range("--size", size, 8, 1024)


def check_folder(out: Path) -> None:
    """Refuses a folder that cannot be written to, or replaced, before any work."""
    from rissole.storage.staging import check_replaceable

    check_replaceable(out)
    check_writable(out)


def check_writable(folder: Path) -> None:
    """Refuses a place where no file can be made; made with the folders above it if need be."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise RissoleError(f"cannot write {folder}: {error.strerror or error}") from error


def check_name(out: Path) -> None:
    """Refuses a name that is too long for the disk, as that of a file which is being written."""
    try:
        os.lstat(out.with_name(f".{out.name}.12345678.tmp"))
    except FileNotFoundError:
        return
    except OSError as error:
        name = out.name if len(out.name) <= QUOTED else out.name[: QUOTED - 3] + "..."
        raise RissoleError(f"cannot write {name}: {error.strerror or error}") from error


def png_path(out: Path) -> Path:
    """The path of a PNG, its folder made; checked before any painting starts."""
    if out.suffix.lower() != ".png":
        raise RissoleError(f"--out must end in .png, not {out.name!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(out.parent)
    check_name(out)
    return out


def load(bundle: str, database: str | None, device: str | None, **options: Any) -> RissolePipeline:
    """The pipeline of a bundle; names the commit of one on the Hub."""
    from rissole.pipeline import RissolePipeline

    pipe = RissolePipeline.from_pretrained(bundle, database=database, device=device, **options)
    if pipe.commit:
        typer.echo(f"{bundle} at commit {pipe.commit}", err=True)
    return pipe


def fastest(device: str | None) -> str:
    """The device asked for, else the accelerator of this machine, else the CPU."""
    import torch

    try:
        if device is not None:
            return str(torch.empty(0, device=device).device)
    # torch raises RuntimeError, AssertionError or another for devices it does not know or have
    except Exception as error:
        raise RissoleError(f"device {device!r} is not available on this machine") from error
    found = torch.accelerator.current_accelerator(check_available=True)
    return str(found) if found else "cpu"


def print_report(report: dict[str, Any], as_json: bool) -> None:
    """One JSON object, or one line per figure."""
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    rows = list(flat(report))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        shown = f"{value:,}" if isinstance(value, int) else value
        shown = f"{value:.4g}" if isinstance(value, float) else shown
        typer.echo(f"{name:<{width}}  {shown}")


def flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Figures of a nested report, each by its path."""
    for name, value in report.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
