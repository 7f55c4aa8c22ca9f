"""`rissole export`: a bundle as a page that needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rissole.cli.options import Bundle

Web = Annotated[
    Path, typer.Option("--web", help="Folder to write; an earlier export there is replaced.")
]
Runtime = Annotated[
    Path | None,
    typer.Option(
        help="Where the package file of onnxruntime-web lies, or its folder, for machines without "
        "network.",
        show_default="fetched from npm once, then cached",
    ),
]


def export(web: Web, bundle: Bundle = "cats-128", runtime: Runtime = None) -> None:
    """Write a folder that any web server serves: the page, and the model that runs in it."""
    from rissole.export.static_page import export_page

    facts = export_page(bundle, web, runtime, lambda line: typer.echo(f"writing {line}", err=True))
    size = sum(facts["files"].values()) / 1e6
    typer.echo(f"{web}: {facts['name']}, {size:.0f} MB beside the thumbnails")
    typer.echo(f"look at it: python -m http.server --directory {web}")
