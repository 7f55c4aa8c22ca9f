"""`rissole join`: a bundle with another database in place of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rissole.cli import options
from rissole.config import RissoleError

MOST = 64 * 2**20  # bytes of a bundle that is fit to travel

Name = Annotated[str, typer.Argument(help="Bundle: a folder, or the name of a bundled one.")]
Folder = Annotated[
    str | None,
    typer.Argument(
        help="Database: a folder made by `index`, or owner/name of one on the Hub.",
        show_default="the bundle's own",
    ),
]
Out = Annotated[
    Path, typer.Option(help="Folder to write; what it is called, the bundle is called.")
]
Card = Annotated[
    Path | None,
    typer.Option(
        help="Model card, a README.md whose first lines name the license; shown by the page, too.",
        show_default="the bundle's own",
    ),
]


def join(
    bundle: Name,
    out: Out,
    database: Folder = None,
    card: Card = None,
    clip: options.Clip = None,
) -> None:
    """Write a bundle that carries another database, such as photos that you may share in place of
    what the model painted; with --clip also the vectors by which words find its pictures."""
    if database is None and clip is None:
        raise RissoleError("there is nothing to join: give a database, or --clip")
    options.check_folder(out)
    text = None if card is None else read_card(card)
    from rissole.loading import save_bundle
    from rissole.storage.manifest import name_like, read_manifest
    from rissole.storage.resolve import resolve

    folder = resolve(bundle)
    pipe = options.load(str(folder), database, "cpu", clip=clip)
    config = {**pipe.config, "name": name_like(out.resolve().name)}
    reads = pipe.retriever.text_encoder
    more = [] if reads is None else [partial(pipe.database.save_vectors, reads)]
    save_bundle(out, folder, pipe.database.folder, config, text, *more)
    size = sum(entry["size"] for entry in read_manifest(out)["files"].values())
    if size > MOST:
        typer.echo(f"note: above {MOST / 2**20:.0f} MiB it travels badly: index fewer", err=True)
    typer.echo(f"{out}: {len(pipe.database):,} pictures, {size / 1e6:.1f} MB")


def read_card(path: Path) -> str:
    """The text of a model card.

    Raises:
        RissoleError: when it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise RissoleError(f"cannot read {path.name[:40]}: {reason}") from error
