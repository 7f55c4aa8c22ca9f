"""From the name of a bundle or database to its folder: local, bundled, or from the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from rissole.config import RissoleError
from rissole.storage.hub import REPO_ID, Repo, fetch
from rissole.storage.manifest import MANIFEST, NAME
from rissole.storage.staging import aside

PACKAGE = Path(__file__).resolve().parents[1]


def bundle_roots() -> list[Path]:
    """Folders that hold bundles by name, the first one first.

    `$RISSOLE_BUNDLES`, `checkpoints/` of a source tree, and what an installed package carries.
    """
    configured = os.environ.get("RISSOLE_BUNDLES")
    own = [PACKAGE.parent / "checkpoints", PACKAGE / "_bundles"]
    return [Path(configured), *own] if configured else own


def bundled_names() -> list[str]:
    """Names that `resolve` finds without network, in alphabetical order."""
    found = (path.parent for root in bundle_roots() for path in root.glob(f"*/{MANIFEST}"))
    return sorted({folder.name for folder in found if not folder.name.startswith(".")})


def resolve(
    name_or_path: str | Path,
    revision: str | None = None,
    kind: str = "model",
    update: bool = False,
) -> Path:
    """Find the folder of a bundle or database; its files are verified by whoever opens it.

    Looked for in this order: a local folder, a bundle of that name in one of `bundle_roots`, a
    repository on the Hugging Face Hub (its cached copy first).

    Args:
        name_or_path: folder, bundled name such as `cats-128`, or `owner/name` on the Hub.
        revision: branch, tag or commit; only for the Hub.
        kind: "model" for bundles; "dataset" for databases, which have no bundled names.
        update: ask the Hub for the newest commit, even when a whole copy is in the cache.

    Raises:
        RissoleError: if nothing of that name is found, or the Hub cannot be reached.
    """
    name = str(name_or_path)
    what = "bundle" if kind == "model" else "database"
    shown = repr(name if len(name) <= 80 else name[:77] + "...")
    if revision is None:
        folders = _candidates(name, bundled=kind == "model")
        for folder in folders:
            if (folder / MANIFEST).is_file():
                return folder
        if folders:
            raise RissoleError(f"{name} is no {what}: it has no {MANIFEST}")
    if REPO_ID.fullmatch(name):
        return fetch(Repo(name, kind, revision), update)
    if revision is not None:
        raise RissoleError(f"a revision needs a Hub repository (owner/name), not {shown}")
    known = f" (bundled: {', '.join(bundled_names()) or 'none'})" if kind == "model" else ""
    raise RissoleError(f"unknown {what} {shown}: no such folder or Hub repository{known}")


def _candidates(name: str, bundled: bool) -> list[Path]:
    """Existing folders that `name` may mean, the first one first."""
    paths = [Path(name)] if name else []
    paths += [aside(path) for path in paths if path.name]  # of a kill between two renames
    if bundled and NAME.fullmatch(name):
        paths += [root / name for root in bundle_roots()]
    try:
        return [path for path in paths if path.is_dir()]
    except OSError:  # a name longer than the file system allows
        return []
