"""Folders that are built whole or not at all, and published by a rename.

A killed build leaves a hidden stage behind, which the next one clears; a replacement cut short
between its two renames leaves the old folder aside, where `resolve` still finds it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from rissole.config import RissoleError, quoted
from rissole.storage.manifest import (
    MANIFEST,
    PAGE_SUFFIXES,
    listing,
    read_manifest,
    write_manifest,
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, no file of that size
# why a folder may not be moved: it belongs to a container's image, or is a disk of its own; or it
# could not be filled the last time, so that there is one aside
IMMOVABLE = {errno.EXDEV, errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST}


@contextlib.contextmanager
def staged(target: str | Path) -> Iterator[Path]:
    """Build a folder whole or not at all.

    Yields an empty folder beside `target`. When the block ends well, its files are flushed to
    disk and it takes the place of `target`; when it fails or is killed, `target` stays as it was.
    An existing `target` is replaced only if `check_replaceable` lets it.

    Raises:
        RissoleError: if `target` holds something else or cannot be written.
    """
    target = Path(target).resolve()  # where a link points to, the link itself stays
    # the mark: number and birth of this process, and something that no other thread has
    mark = f"{os.getpid()}-{psutil.Process().create_time():.0f}-{secrets.token_hex(4)}"
    stage = target.with_name(f".{target.name}.stage-{mark}")
    with _writing(target):
        stage.mkdir()
    try:
        try:
            yield stage
        except OSError as error:
            if error.errno in FULL:  # what is half written goes with the stage
                raise RissoleError(f"cannot write {target}: {error.strerror}") from error
            raise
        publish(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def amended(folder: str | Path, file: str) -> Iterator[Path]:
    """Change one file of a bundle, the bundle changing whole or not at all.

    Yields a folder that holds all the others, to write this one into.

    Raises:
        RissoleError: as `staged` does, and if the folder has no manifest.
    """
    manifest = read_manifest(folder)
    name = manifest.pop("name")
    more = {key: value for key, value in manifest.items() if key not in ("format", "files")}
    with staged(folder) as stage:
        copy_files(Path(folder), stage, skip=(file,))
        yield stage
        write_manifest(stage, name, **more)


def publish(stage: Path, target: str | Path) -> None:
    """Flush a finished folder to disk and let it take the place of `target`.

    Whoever opens `target` meanwhile finds the old folder or the new one, through `resolve` even
    after a kill between the two renames.

    Raises:
        RissoleError: if `target` holds something else, or the file system does not let it.
    """
    target = Path(target).resolve()
    with _writing(target):
        _flush(stage)
        _exchange(stage, target)


def check_replaceable(target: str | Path) -> None:
    """Raise RissoleError unless `target` is missing, empty, or one of our folders and nothing more.

    One of ours has a manifest that we wrote: other programs have a file of that name, too. Hidden
    files count as nothing, as everywhere, but for the history that git keeps.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise RissoleError(f"{target} is a file, not a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    filling = not (target / MANIFEST).exists()  # a replacement was cut short, see `_refill`
    try:
        manifest = read_manifest(aside(target.absolute()) if filling else target, PAGE_SUFFIXES)
    except RissoleError as error:
        why = f" ({error})" if (target / MANIFEST).exists() else ""
        told = f"{target} is not empty and no bundle: not overwritten{why}"
        raise RissoleError(told) from error
    more = [] if filling else [path for path in listing(target) if path not in manifest["files"]]
    if (target / ".git").exists():
        more.append(".git")
    if more:
        shown = quoted(more[0])
        raise RissoleError(f"{target} holds {shown}, which is not of the bundle: not overwritten")


def make_room(folder: Path) -> None:
    """Remove a folder of our own naming that `staged` would not replace, such as a damaged one."""
    try:
        check_replaceable(folder)
    except (OSError, RissoleError):
        discard(folder)


def copy_files(folder: Path, target: Path, skip: tuple[str, ...] = ()) -> None:
    """Copy all files but the manifest and hidden ones.

    The copies are new files, with the permissions that those have.

    Args:
        folder: a bundle or database.
        target: folder to write into.
        skip: what the paths of those begin with that are left out.
    """
    for path in listing(folder):
        if not path.startswith(skip):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, target / path)


def clear_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what killed builds left in a folder: of one target by its name, or of all."""
    pattern = "*" if name is None else glob.escape(name)
    for stage in folder.glob(f".{pattern}.stage-*"):
        if _abandoned(stage.name.rpartition(".stage-")[2]):
            shutil.rmtree(stage, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder whole: a kill leaves a hidden one, which `clear_abandoned` takes."""
    hidden = folder.with_name(f".{folder.name}.stage-gone")
    shutil.rmtree(hidden, ignore_errors=True)
    with contextlib.suppress(OSError):  # what cannot be removed stays
        folder.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def aside(target: Path) -> Path:
    """Where the old folder lies between the two renames that replace it."""
    return target.with_name(f".{target.name}.replaced")


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Everything that is written for `target`: checked and cleared before, one line on failure."""
    try:
        check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target)
        yield
    except OSError as error:
        raise RissoleError(f"cannot write {target}: {error.strerror or error}") from error


def _clear_stale(target: Path) -> None:
    """Remove what killed builds of `target` left, and undo a half-finished replacement."""
    old = aside(target)
    if old.exists() and not target.exists():
        old.replace(target)
    if not target.exists() or (target / MANIFEST).is_file():
        shutil.rmtree(old, ignore_errors=True)  # else what is found until there is a new one
    clear_abandoned(target.parent, target.name)


def _abandoned(mark: str) -> bool:
    """Whether the process that made a mark is gone.

    In a container, another one often has its number by now.
    """
    number, *more = mark.split("-")
    try:
        born = psutil.Process(int(number)).create_time()
        return bool(more) and abs(born - int(more[0])) > 10  # clocks are set
    except (ValueError, psutil.NoSuchProcess):
        return True
    except psutil.AccessDenied:
        return False


def _exchange(stage: Path, target: Path) -> None:
    """Two renames: a folder cannot be renamed over one that is not empty."""
    old = aside(target)
    if target.exists():
        try:
            target.replace(old)
        except OSError as error:
            if error.errno not in IMMOVABLE:
                raise
            return _refill(stage, target)
    try:
        stage.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        raise
    _flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return None


def _refill(stage: Path, target: Path) -> None:
    """Copies a finished folder into one that stays where it is.

    The old folder is copied aside before, and the manifest comes last: in between, `resolve` finds
    the old folder.
    """
    old = aside(target)
    if (target / MANIFEST).is_file():
        copy = old.with_name(f"{old.name}.part")
        for place in (copy, old):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(target, copy)
        _flush(copy)
        copy.replace(old)
        (target / MANIFEST).unlink()
    for path in target.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    copy_files(stage, target)
    _flush(target)
    if (stage / MANIFEST).is_file():
        shutil.copyfile(stage / MANIFEST, target / MANIFEST)
        _flush(target)
    shutil.rmtree(old, ignore_errors=True)


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
