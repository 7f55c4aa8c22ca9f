"""Files that are written: whole or not at all, and open to whoever may open any other new file."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors.torch import save
from torch import Tensor

from rissole.config import RissoleError


@contextlib.contextmanager
def writing(path: Path, lasting: bool = True) -> Iterator[BinaryIO]:
    """Yields a file that is there, whole, when the block ends well: beside it, fsync, rename.

    Whatever else is written by this package goes into a stage (`storage.staging`).

    Args:
        path: of the file.
        lasting: whether it is to be there after a power cut, too.

    Raises:
        RissoleError: if the file cannot be written; nothing is left behind.
    """
    # a name of its own: that of the file may be as long as names can be
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RissoleError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file as `writing` does, with these bytes."""
    with writing(path) as file:
        file.write(data)


def save_tensors(
    tensors: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file as `write_atomic` does.

    The library's own `save_file` writes files that only their owner may read, whatever the umask.

    Raises:
        RissoleError: if a value is NaN or infinite, or the file cannot be written; what was there
            before stays.
    """
    odd = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if odd:
        raise RissoleError(f"cannot write {path}: {odd[0]} is not finite (NaN or infinity)")
    write_atomic(Path(path), save(dict(tensors), metadata))


def cache_folder() -> Path:
    """Where this project keeps what can be made again: `$RISSOLE_CACHE`, or the user's cache.

    A user without a home gets a folder that goes when the process ends.
    """
    if configured := os.environ.get("RISSOLE_CACHE"):
        return Path(configured)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rissole"
    except RuntimeError:  # no $HOME, and no such user
        return _passing_folder()


@functools.cache
def _passing_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="rissole-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
