"""Files of rows that a build appends to, and cuts back to what is known to be whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rissole.retrieval.contents import LATENTS, THUMBNAILS
from rissole.retrieval.encoders import QueryEncoder

HEADER = 1024  # bytes kept free in front of a tensor for what is known at the end
BYTES = {"U8": 1, "F16": 2, "I64": 8}  # of a number of each type
NO_SPACE = 28  # errno.ENOSPC; some systems write part of the data and raise nothing


class Column:
    """A file of rows of one kind.

    Args:
        path: the file; made with its folder if need be.
        dtype: of the numbers.
        row: shape of a row; () for single numbers.
        header: bytes in front of the first row.
    """

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...] = (), header: int = 0):
        self.path, self.dtype, self.row, self.header = path, np.dtype(dtype), row, header
        self.row_bytes = self.dtype.itemsize * int(np.prod(row, dtype=np.int64))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.file = path.open("r+b", buffering=0)

    def cut(self, rows: int) -> bool:
        """Forgets what comes after some rows; tells whether all of them are there."""
        length = self.header + rows * self.row_bytes
        whole = rows == 0 or self.path.stat().st_size >= length
        self.file.truncate(length)
        self.file.seek(length)
        return whole

    def append(self, values: np.ndarray | bytes) -> None:
        """Adds rows; a full disk is an OSError."""
        data = values if isinstance(values, bytes) else np.asarray(values, self.dtype).tobytes()
        if self.file.write(data) != len(data):
            raise OSError(NO_SPACE, "No space left on device", str(self.path))

    def rows(self, count: int) -> np.ndarray:
        """All rows, memory-mapped."""
        if not count:
            return np.empty((0, *self.row), self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.header, (count, *self.row))

    def one(self, number: int) -> np.ndarray:
        """A single row."""
        data = self.part(self.header + number * self.row_bytes, self.row_bytes)
        return np.frombuffer(data, self.dtype).reshape(self.row)

    def part(self, start: int, length: int) -> bytes:
        """Bytes from anywhere in the file."""
        self.file.seek(start)
        data = self.file.read(length)
        self.file.seek(0, os.SEEK_END)
        return data

    def describe(self, tensors: Mapping[str, tuple[str, list[int], int]]) -> None:
        """Says in the space kept free what tensors the file holds, as the safetensors format does.

        8 bytes of length, then JSON, which may end in spaces.

        Args:
            tensors: type, shape, and where it starts behind the header, of each by name.
        """
        entries = {}
        for name, (kind, shape, start) in tensors.items():
            end = start + BYTES[kind] * math.prod(shape)
            entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(entries).encode()
        self.file.seek(0)
        self.file.write((HEADER - 8).to_bytes(8, "little") + text.ljust(HEADER - 8))
        self.file.seek(0, os.SEEK_END)

    def flush(self) -> None:
        """Forces the file to disk."""
        os.fsync(self.file.fileno())


def open_columns(
    folder: Path, latent_shape: tuple[int, ...], encoders: Sequence[QueryEncoder]
) -> dict[str, Column]:
    """The files of a database in the making.

    `database/` is what will be published; `columns/` is what is needed on the way.
    """
    final, helper = folder / "database", folder / "columns"
    columns = {
        "latents": Column(final / LATENTS, "f2", latent_shape, HEADER),
        "webp": Column(final / THUMBNAILS, "u1", (), HEADER),
        "lengths": Column(helper / "lengths", "i4"),
        "digests": Column(helper / "digests", "u1", (16,)),
        "numbers": Column(helper / "numbers", "i8"),
        "labels": Column(helper / "labels", "i4"),
        "notes": Column(helper / "notes", "u1"),
    }
    for i, encoder in enumerate(encoders):
        columns[f"vectors-{i}"] = Column(helper / f"vectors-{i}", "f2", (encoder.dim,))
    return columns
