"""Manifests: what belongs to a folder of weights or data, verified before use.

A bundle holds `manifest.json`, `config.json`, `README.md` (the model card) and the folders
`autoencoder/`, `denoiser/`, `scheduler/` and `database/`. The manifest lists size and SHA-256 of
every other file. Loaders check it before they open anything, because a flipped bit in a weight or
index file loads without complaint and merely gives other pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from rissole.config import QUOTES, RissoleError, quoted
from rissole.storage.files import cache_folder, write_atomic
from rissole.storage.schema import STRICT, OddError, read_json

MANIFEST = "manifest.json"
LEFT_OUT = "left-out.json"  # of a database: names of its maker's files, which stay with its maker
FORMAT = 1
SUFFIXES = (".safetensors", ".json", ".md", ".txt", ".faiss", ".webp", ".png", ".gif")
# of a page that paints in a browser: nothing here opens them, a browser does
PAGE_SUFFIXES = (
    *SUFFIXES,
    ".html",
    ".css",
    ".js",
    ".mjs",
    ".svg",
    ".wasm",
    ".onnx",
    ".bin",
    "/LICENSE",
)
MAX_PATH = 200  # characters of a path inside a bundle; Windows takes 260 with the folder's own
LARGE = 64 * 2**20  # bytes; no file of a shipped bundle has so many, see `verify`
SETTLED = 2.0  # seconds in which a file may change unnoticed: some file systems keep even ones only
STRAYS = ("Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r")  # what file managers leave anywhere
LOADED = (".safetensors", ".json", ".faiss")  # kinds of files that loaders look for by name

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FileFacts(TypedDict):
    """What a manifest says of a file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    size: Annotated[int, Field(ge=0, le=2**53)]  # bytes
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(TypedDict):
    """The form of `manifest.json`.

    `encoder` is the `latent_fingerprint` of the bundle that a database was made for, and `license`
    whatever the maker says.
    """

    __pydantic_config__ = STRICT  # type: ignore[misc]

    format: int
    name: str
    files: dict[str, FileFacts]
    encoder: NotRequired[Annotated[str, Field(max_length=200)] | None]
    license: NotRequired[Annotated[str, Field(max_length=10_000)]]


def write_manifest(
    folder: str | Path, name: str, kinds: Sequence[str] = SUFFIXES, **extra: Any
) -> dict[str, Any]:
    """Describe every file now in `folder` in its `manifest.json`.

    Args:
        folder: the bundle or database; hidden files are left out.
        name: the bundle's name: letters, digits, dot, dash and underscore.
        kinds: endings that names of files may have.
        **extra: further JSON values to keep in the manifest.

    Returns:
        The manifest: `{"format", "name", "files": {path: {"size", "sha256"}}, **extra}`.

    Raises:
        RissoleError: if the name or the kind of a file is not allowed, or writing fails.
    """
    _check_name(name)
    folder = Path(folder)
    files = {path: _describe(folder / path) for path in listing(folder)}
    for path in files:
        _check_listed_path(path, kinds)
    manifest = {"format": FORMAT, "name": name, "files": files, **extra}
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    write_atomic(folder / MANIFEST, (text + "\n").encode())
    return manifest


def read_manifest(folder: str | Path, kinds: Sequence[str] = SUFFIXES) -> dict[str, Any]:
    """Read and check the form of `manifest.json`; the files themselves are left alone.

    Raises:
        RissoleError: if it is missing, unreadable, of another format or odd in any way: it may
            come from anybody.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest: Any = read_json(path, Manifest)
    except OSError as error:
        raise RissoleError(f"{path.parent} is no bundle: it has no readable {MANIFEST}") from error
    except OddError as error:
        if error.place[:1] == ("files",) and len(error.place) > 1:
            reason = f"gives no size and sha256 for {quoted(error.place[1]).strip(QUOTES)}"
            raise RissoleError(f"{MANIFEST} {reason}") from error
        raise RissoleError(f"{path} is damaged ({error})") from error
    if manifest["format"] != FORMAT:
        raise RissoleError(f"{path} has format {quoted(manifest['format'])}, this version reads 1")
    _check_name(manifest["name"])
    for listed in manifest["files"]:
        _check_listed_path(listed, kinds)
    return manifest


def verify(
    folder: str | Path,
    tolerate: Callable[[str], bool] = lambda path: False,
    remember: bool = False,
    kinds: Sequence[str] = SUFFIXES,
) -> dict[str, Any]:
    """Check every file of a bundle or database against its manifest.

    Args:
        folder: the bundle or database.
        tolerate: tells of a path that the manifest does not list whether it may lie there.
        remember: read a large file once and not again until the file system says that it changed:
            for opening, where hashing gigabytes at every start would take longer than all else.
        kinds: endings that names of files may have.

    Returns:
        The manifest.

    Raises:
        RissoleError: names the first file that is missing, short, damaged or not listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, kinds)
    for path, expected in sorted(manifest["files"].items()):
        check_file(folder, path, expected, remember)
    # A loader that looks for files by name must not find one that nobody vouched for.
    for path in listing(folder):
        if path not in manifest["files"] and not tolerate(path):
            raise RissoleError(f"{folder.name}/{path} is not listed in {MANIFEST}")
    return manifest


def whole(folder: str | Path) -> bool:
    """Whether a folder with a manifest is there, and nothing in it is damaged; see `verify`."""
    try:
        verify(folder, remember=True)
    except RissoleError:
        return False
    return True


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


def listing(folder: Path) -> list[str]:
    """Files below `folder` but the manifest, hidden ones and `STRAYS`, as sorted POSIX paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    kept = (path.as_posix() for path in shown if path.name not in STRAYS)
    return sorted(path for path in kept if path != MANIFEST)


def _describe(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _check_listed_path(path: str, kinds: Sequence[str]) -> None:
    """Refuse paths that leave the folder and kinds of files that no loader here may open."""
    parts = PurePosixPath(path).parts
    if not path.isprintable() or len(path) > MAX_PATH:
        raise RissoleError(f"{MANIFEST} lists {ascii(path):.80}, which is no path for a file")
    plain = PurePosixPath(path).as_posix() == path and not path.startswith("/")
    if not parts or not plain or ".." in parts or "\\" in path or ":" in path:
        raise RissoleError(f"{MANIFEST} lists the path {path!r}, which leaves the bundle")
    if not path.endswith(tuple(kinds)):
        raise RissoleError(f"{path} is of a kind that does not belong in a bundle")


def name_like(text: str) -> str:
    """A name that a manifest may have, close to what a folder is called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-_")[:80] or "unnamed"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        shown = ascii(name if len(name) <= 80 else name[:77] + "...")
        raise RissoleError(f"{shown} cannot be a bundle's name (letters, digits and ._- only)")


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
