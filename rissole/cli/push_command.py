"""`rissole push`: upload a bundle, a database or the app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="What to upload: a bundled name, the folder of a bundle or of a database. With "
        "--space also owner/name of a model on the Hub.",
    ),
]
Repo = Annotated[str, typer.Argument(help="Where to: owner/name on the Hugging Face Hub.")]
Space = Annotated[
    bool, typer.Option("--space", help="Upload the app as a Space that shows this bundle.")
]
Static = Annotated[
    bool,
    typer.Option(
        "--static", help="Upload a folder of `export --web` as a static Space, free to host."
    ),
]
Database = Annotated[
    str | None, typer.Option(help="With --space: owner/name of a database on the Hub.")
]
Private = Annotated[bool, typer.Option("--private", help="Make a private repository.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Verify and list the files, upload nothing.")
]


def push(
    source: Source,
    repo: Repo,
    space: Space = False,
    static: Static = False,
    database: Database = None,
    private: Private = False,
    dry_run: DryRun = False,
) -> None:
    """Check a bundle or a database and upload it to the Hugging Face Hub; or the app as a Space."""
    from rissole.storage.hub import check_repo_id
    from rissole.storage.push import push as push_bundle
    from rissole.storage.resolve import resolve
    from rissole.storage.space import push_space, push_static

    check_repo_id(repo)
    if database is not None:
        check_repo_id(database)
    remote = space and "/" in source and not Path(source).exists()
    if remote:
        check_repo_id(source)
        typer.echo(f"the app, which loads {source} from the Hub")
    else:
        folder = resolve(source)
        list_files(folder, static)
    if dry_run:
        typer.echo(f"nothing uploaded: without --dry-run this would go to {repo}")
    elif static:
        typer.echo(push_static(folder, repo, private))
    elif space:
        typer.echo(push_space(source if remote else folder, repo, private, database))
    else:
        typer.echo(push_bundle(folder, repo, private))


def list_files(folder: Path, page: bool = False) -> None:
    """Verifies a bundle, or a page, and prints what of it would be sent."""
    from rissole.storage.manifest import PAGE_SUFFIXES, SUFFIXES, verify
    from rissole.storage.push import sendable

    files = sendable(verify(folder, kinds=PAGE_SUFFIXES if page else SUFFIXES))
    for path, entry in sorted(files.items()):
        typer.echo(f"{entry['size']:>12,}  {path}")
    total = sum(entry["size"] for entry in files.values())
    typer.echo(f"{total:>12,}  bytes in {len(files)} files, all as in the manifest")
