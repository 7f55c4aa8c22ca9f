"""Bundles: folders of weights and data that are found by name and verified before use.

A bundle holds `manifest.json`, `config.json`, `README.md` (the model card) and the folders
`autoencoder/`, `denoiser/`, `scheduler/` and `database/`. The manifest lists size and SHA-256 of
every other file. Loaders check it before they open anything, because a flipped bit in a weight or
index file loads without complaint and merely gives other pictures.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rissole.config import RissoleError
from rissole.storage.files import cache_folder, write_atomic

MANIFEST = "manifest.json"
LEFT_OUT = "left-out.json"  # of a database: names of its maker's files, which stay with its maker
FORMAT = 1
SUFFIXES = (".safetensors", ".json", ".md", ".txt", ".faiss", ".webp", ".png", ".gif")
MAX_PATH = 200  # characters of a path inside a bundle; Windows takes 260 with the folder's own
LARGE = 64 * 2**20  # bytes; no file of a shipped bundle has so many, see `verify`
SETTLED = 2.0  # seconds in which a file may change unnoticed: some file systems keep even ones only
LOADED = (".safetensors", ".json", ".faiss")  # kinds of files that loaders look for by name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO_ID = re.compile(rf"{_NAME.pattern}/{_NAME.pattern}")


def write_manifest(folder: str | Path, name: str, **extra: Any) -> dict[str, Any]:
    """Describe every file now in `folder` in its `manifest.json`.

    Args:
        folder: the bundle or database; hidden files are left out.
        name: the bundle's name: letters, digits, dot, dash and underscore.
        **extra: further JSON values to keep in the manifest.

    Returns:
        The manifest: `{"format", "name", "files": {path: {"size", "sha256"}}, **extra}`.

    Raises:
        RissoleError: if the name or the kind of a file is not allowed, or writing fails.
    """
    _check_name(name)
    folder = Path(folder)
    files = {path: _describe(folder / path) for path in _listing(folder)}
    for path in files:
        _check_listed_path(path)
    manifest = {"format": FORMAT, "name": name, "files": files, **extra}
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    write_atomic(folder / MANIFEST, (text + "\n").encode())
    return manifest


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check the form of `manifest.json`; the files themselves are left alone.

    Raises:
        RissoleError: if it is missing, unreadable, of another format or odd in any way: it may
            come from anybody.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise RissoleError(f"{path.parent} is no bundle: it has no readable {MANIFEST}") from error
    except (ValueError, RecursionError) as error:
        raise RissoleError(f"{path} is damaged (not JSON)") from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not isinstance(manifest.get("name"), str):
        raise RissoleError(f"{path} is damaged (no name or no list of files)")
    if manifest.get("format") != FORMAT:
        raise RissoleError(f"{path} has format {manifest.get('format')!r}, this version reads 1")
    _check_name(manifest["name"])
    for listed, entry in files.items():
        _check_listed_path(listed)
        _check_entry(listed, entry)
    return manifest


def verify(
    folder: str | Path,
    tolerate: Callable[[str], bool] = lambda path: False,
    remember: bool = False,
) -> dict[str, Any]:
    """Check every file of a bundle or database against its manifest.

    Args:
        folder: the bundle or database.
        tolerate: tells of a path that the manifest does not list whether it may lie there.
        remember: read a large file once and not again until the file system says that it changed:
            for opening, where hashing gigabytes at every start would take longer than all else.

    Returns:
        The manifest.

    Raises:
        RissoleError: names the first file that is missing, short, damaged or not listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for path, expected in sorted(manifest["files"].items()):
        check_file(folder, path, expected, remember)
    # A loader that looks for files by name must not find one that nobody vouched for.
    for path in _listing(folder):
        if path not in manifest["files"] and not tolerate(path):
            raise RissoleError(f"{folder.name}/{path} is not listed in {MANIFEST}")
    return manifest


def harmless(path: str) -> bool:
    """Whether a file may lie in a bundle without being listed: no loader looks for its kind."""
    return not path.endswith(LOADED)


def fingerprint(manifest: Mapping[str, Any], prefix: str | tuple[str, ...] = "") -> str:
    """12 hex digits that stand for the contents of all files under `prefix`.

    Args:
        manifest: as `verify` returns it.
        prefix: start of the paths that count, such as `"database/"`, or several of them.
    """
    files = manifest["files"].items()
    hashes = sorted(entry["sha256"] for path, entry in files if path.startswith(prefix))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:12]


def latent_fingerprint(manifest: Mapping[str, Any]) -> str:
    """Stands for what makes the latents and vectors of a bundle's databases."""
    return fingerprint(manifest, ("autoencoder/", "embedding/"))


def copy_files(folder: Path, target: Path, skip: tuple[str, ...] = ()) -> None:
    """Copies all files but the manifest and hidden ones.

    The copies are new files, with the permissions that those have.

    Args:
        folder: a bundle or database.
        target: folder to write into.
        skip: what the paths of those begin with that are left out.
    """
    for path in _listing(folder):
        if not path.startswith(skip):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, target / path)


def bundled_names() -> list[str]:
    """Names that `resolve` finds without network, in alphabetical order."""
    found = (path.parent for root in _roots() for path in root.glob(f"*/{MANIFEST}"))
    return sorted({folder.name for folder in found if not folder.name.startswith(".")})


def resolve(
    name_or_path: str | Path,
    revision: str | None = None,
    kind: str = "model",
    update: bool = False,
) -> Path:
    """Find the folder of a bundle or database; its files are verified by whoever opens it.

    Looked for in this order: a local folder, `$RISSOLE_BUNDLES/<name>`, `checkpoints/<name>`
    beside the package, a repository on the Hugging Face Hub (its cached copy first).

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
    if _REPO_ID.fullmatch(name):
        from rissole.storage.hub import Repo, fetch  # it reads manifests with this module

        return fetch(Repo(name, kind, revision), update)
    if revision is not None:
        raise RissoleError(f"a revision needs a Hub repository (owner/name), not {shown}")
    known = f" (bundled: {', '.join(bundled_names()) or 'none'})" if kind == "model" else ""
    raise RissoleError(f"unknown {what} {shown}: no such folder or Hub repository{known}")


def check_repo_id(repo_id: str) -> None:
    """Raise RissoleError unless `repo_id` has the form `owner/name`."""
    if not _REPO_ID.fullmatch(repo_id):
        raise RissoleError(f"{repo_id!r} is no repository on the Hugging Face Hub (owner/name)")


@contextlib.contextmanager
def staged(target: str | Path) -> Iterator[Path]:
    """Build a folder whole or not at all.

    Yields an empty folder beside `target`. When the block ends well, its files are flushed to
    disk and it takes the place of `target`; when it fails or is killed, `target` stays as it was.
    An existing `target` is replaced only if it is empty or carries a manifest itself.

    Raises:
        RissoleError: if `target` holds something else or cannot be written.
    """
    target = Path(target).resolve()  # where a link points to, the link itself stays
    check_replaceable(target)
    stage = target.with_name(f".{target.name}.stage-{_mark()}")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target)
        stage.mkdir()
    try:
        yield stage
        with _writing(target):
            _flush(stage)
            _publish(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_replaceable(target: str | Path) -> None:
    """Raise RissoleError unless `target` is missing, empty, or carries a manifest itself."""
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise RissoleError(f"{target} is a file, not a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise RissoleError(f"{target} is not empty and no bundle: not overwritten")


def publish(stage: Path, target: str | Path) -> None:
    """Flush a finished folder to disk and let it take the place of `target`.

    Whoever opens `target` meanwhile finds the old folder or the new one, through `resolve` even
    after a kill between the two renames.

    Raises:
        RissoleError: if the file system does not let it.
    """
    target = Path(target).resolve()
    check_replaceable(target)
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target)
        _flush(stage)
        _publish(stage, target)


def _listing(folder: Path) -> list[str]:
    """All files below `folder` but the manifest and hidden ones, as sorted POSIX paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return sorted(path.as_posix() for path in shown if path.as_posix() != MANIFEST)


def _describe(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _check_listed_path(path: str) -> None:
    """Refuse paths that leave the folder and kinds of files that no loader here may open."""
    parts = PurePosixPath(path).parts
    if not path.isprintable() or len(path) > MAX_PATH:
        raise RissoleError(f"{MANIFEST} lists {ascii(path):.80}, which is no path for a file")
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
        raise RissoleError(f"{MANIFEST} lists the path {path!r}, which leaves the bundle")
    if not path.endswith(SUFFIXES):
        raise RissoleError(f"{path} is of a kind that does not belong in a bundle")


def _check_entry(path: str, entry: Any) -> None:
    known = entry if isinstance(entry, dict) else {}
    size, digest = known.get("size"), known.get("sha256")
    if type(size) is not int or size < 0 or not _SHA256.fullmatch(str(digest)):
        raise RissoleError(f"{MANIFEST} gives no size and sha256 for {path}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        shown = ascii(name if len(name) <= 80 else name[:77] + "...")
        raise RissoleError(f"{shown} cannot be a bundle's name (letters, digits and ._- only)")


def check_file(
    folder: Path, path: str, expected: Mapping[str, Any], remember: bool = False
) -> None:
    """Check one file of a bundle against its entry in the manifest; `remember` as in `verify`.

    Raises:
        RissoleError: if it is missing, short or damaged.
    """
    name = f"{folder.name}/{path}"
    if not (folder / path).is_file():
        raise RissoleError(f"{name} is missing")
    size = (folder / path).stat().st_size
    if size != expected["size"]:
        raise RissoleError(f"{name} is damaged: {size} bytes, not {expected['size']}")
    try:
        large = remember and size >= LARGE
        found = _remembered(folder / path) if large else _describe(folder / path)["sha256"]
    except OSError as error:
        raise RissoleError(f"cannot read {name}: {error.strerror or error}") from error
    if found != expected["sha256"]:
        raise RissoleError(f"{name} is damaged: its sha256 differs from the one in {MANIFEST}")


def _remembered(path: Path) -> str:
    """SHA-256 of a file, out of the cache when the file is as it was when it was last read.

    As it was: of the same inode, size, and times of change. What the file system cannot tell, a
    bit that rotted on the disk, is found at the next copy or download and no longer at each start.
    """
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    note, state = cache_folder() / "verified" / f"{name}.json", _state(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(note.read_bytes())
        if kept["state"] == state:
            return kept["sha256"]
    settled = time.time() - max(state[2:]) / 1e9 > SETTLED
    digest = _describe(path)["sha256"]
    if settled and _state(path) == state:
        with contextlib.suppress(OSError, RissoleError):  # without a cache it is read again
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(note, json.dumps({"state": state, "sha256": digest}).encode())
    return digest


def _state(path: Path) -> list[int]:
    """What is other when a file was changed or replaced."""
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _roots() -> list[Path]:
    """Folders that hold bundles by name."""
    configured = os.environ.get("RISSOLE_BUNDLES")
    roots = [Path(configured)] if configured else []
    return [*roots, Path(__file__).resolve().parents[2] / "checkpoints"]


def _candidates(name: str, bundled: bool = True) -> list[Path]:
    """Existing folders that `name` may mean, the first one first."""
    paths = [Path(name)] if name else []
    paths += [_aside(path) for path in paths if path.name]  # of a kill between two renames
    if bundled and _NAME.fullmatch(name):
        paths += [root / name for root in _roots()]
    try:
        return [path for path in paths if path.is_dir()]
    except OSError:  # a name longer than the file system allows
        return []


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RissoleError(f"cannot write {target}: {error.strerror or error}") from error


def _clear_stale(target: Path) -> None:
    """Remove what killed builds of `target` left, and undo a half-finished replacement."""
    aside = _aside(target)
    if aside.exists() and not target.exists():
        aside.replace(target)
    shutil.rmtree(aside, ignore_errors=True)
    for stage in target.parent.glob(f".{glob.escape(target.name)}.stage-*"):
        if _abandoned(stage.name.rpartition(".stage-")[2]):
            shutil.rmtree(stage, ignore_errors=True)


def _mark() -> str:
    """Names a stage: number and birth of this process, and something that no other thread has."""
    import psutil

    born = psutil.Process().create_time()
    return f"{os.getpid()}-{born:.0f}-{secrets.token_hex(4)}"


def _abandoned(mark: str) -> bool:
    """Whether the process that made a mark is gone.

    In a container, another one often has its number by now.
    """
    import psutil

    number, *more = mark.split("-")
    try:
        born = psutil.Process(int(number)).create_time()
        return bool(more) and abs(born - int(more[0])) > 10  # clocks are set
    except (ValueError, psutil.NoSuchProcess):
        return True
    except psutil.AccessDenied:
        return False


def _publish(stage: Path, target: Path) -> None:
    """Two renames: a folder cannot be renamed over one that is not empty."""
    aside = _aside(target)
    if target.exists():
        target.replace(aside)
    try:
        stage.replace(target)
    except OSError:
        if aside.exists():
            aside.replace(target)
        raise
    _flush_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _flush(folder: Path) -> None:
    """Force all files below `folder`, and the folders' own entries, to disk."""
    mode = "r+b" if os.name == "nt" else "rb"  # Windows flushes only what it may write
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open(mode) as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    # Folders cannot be opened on Windows; there the rename itself has to do.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
