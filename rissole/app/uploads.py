"""The folder of what visitors send and fetch, and the one check of paths that come from them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rissole.config import RissoleError

MOST = 300_000  # characters and values in one event; a page that is full sends a tenth
PREFIX, LOCK = "rissole-", ".lock"
LIBRARY = "GRADIO_TEMP_DIR"  # where the library under the page looks for its folder, each time


@functools.cache
def private_folder() -> Path:
    """The folder of this process, readable by nobody else and gone when it ends.

    A shared one would let two apps delete each other's files, and shut out all users of a machine
    but the first. `GRADIO_TEMP_DIR`, if set, says where to make it. What processes that were killed
    left there is removed.

    Raises:
        RissoleError: when no folder can be made.
    """
    above = os.environ.get(LIBRARY)
    try:
        if above:
            Path(above).mkdir(parents=True, exist_ok=True)
        # resolved: links above it are the machine's own, those inside it are refused
        folder, lock = _claimed(Path(above or tempfile.gettempdir()).resolve())
    except OSError as error:
        where = above or "the folder for temporary files"
        raise RissoleError(f"cannot write to {where}: {error.strerror or error}") from error
    os.environ[LIBRARY] = str(folder)
    atexit.register(_remove, folder, lock, os.getpid())
    return folder


def _claimed(above: Path) -> tuple[Path, FileLock]:
    """A new folder with a lock on it, which is free again when the process ends in any way."""
    for other in above.glob(f"{PREFIX}*/{LOCK}"):
        # in use, another user's, or on a disk without locks
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            mine = not hasattr(os, "getuid") or other.parent.lstat().st_uid == os.getuid()
            if mine and not other.parent.is_symlink():
                with FileLock(other, timeout=0):
                    shutil.rmtree(other.parent, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):
            continue  # somebody who takes it for abandoned is just removing it
        except (OSError, NotImplementedError):
            pass  # a disk without locks: nobody can tell, so nobody removes it
        return folder, lock


def _remove(folder: Path, lock: FileLock, owner: int) -> None:
    if os.getpid() == owner:  # not when a forked helper ends
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def uploaded(path: Any) -> Path | None:
    """The file of a path that came from outside: in our own folder, a regular file, no link.

    None for everything else. Nothing tells whether there is a file elsewhere.
    """
    if not isinstance(path, str) or not Path(path).is_relative_to(private_folder()):
        return None
    given = Path(path)
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long, "\\0", links in a ring
        if given.resolve(strict=True) == given and given.is_file():
            return given
    return None


def too_much(data: Any) -> bool:
    """Whether values that were sent hold more than any page or program has reason to send."""
    waiting, length = [data], 0
    while waiting:
        value = waiting.pop()
        length += len(value) if isinstance(value, (str, dict, list, tuple)) else 1
        if length > MOST:
            return True
        if isinstance(value, dict):
            waiting.extend((*value, *value.values()))
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
    return False


def files_in(data: Any) -> Iterator[Any]:
    """The path of every file object in what was sent, however deep; None where it has none.

    The library takes any mapping with a "path" for one, and those with a certain mark, too.
    """
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "path" in value or "meta" in value:
                yield value.get("path")
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
