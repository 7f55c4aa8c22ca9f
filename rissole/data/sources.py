"""Where pictures for a database come from: a folder, parquet files, or a data set on the Hub.

A source is read in one fixed order, in bounded memory, and from any place on, so that a build that
was cut off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rissole.config import RissoleError
from rissole.data.images import printable
from rissole.storage.hub import Repo, commit

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
ROWS = 32  # of a parquet file in memory at a time


class Item(NamedTuple):
    """One picture, not yet looked at.

    Attributes:
        name: for messages.
        data: the file, or its bytes; None where a row holds no picture.
        label: its class, if the source knows one.
    """

    name: str
    data: bytes | Path | None
    label: str | None = None


class Source(ABC):
    """Pictures in a fixed order.

    Attributes:
        name: for people.
        total: how many there are, None when that is not known.
    """

    name: str
    total: int | None = None

    @property
    @abstractmethod
    def identity(self) -> str:
        """Changes when the pictures or their order do."""

    @abstractmethod
    def items(self, start: int = 0) -> Iterator[Item]:
        """All pictures from number `start` on."""


def open_source(where: str | Path, split: str = "train", revision: str | None = None) -> Source:
    """Finds out what `where` is.

    Args:
        where: a folder of pictures, a parquet file or a folder of such, or `owner/name` of a data
            set on the Hub.
        split: part of a data set on the Hub.
        revision: branch, tag or commit of a data set on the Hub.

    Raises:
        RissoleError: when it is none of them.
    """
    path = Path(where)
    if path.is_dir():
        parquet = sorted(path.glob("*.parquet"))
        return ParquetSource(parquet, path.stem) if parquet else FolderSource(path)
    if path.suffix == ".parquet" and path.is_file():
        return ParquetSource([path], path.stem)
    parts = str(where).split("/")
    if len(parts) == 2 and all(parts) and not path.exists() and not parts[0].startswith("."):
        return HubSource(str(where), split, revision)
    raise RissoleError(f"no folder of pictures, no parquet file, no data set: {where}")


class FolderSource(Source):
    """All pictures below a folder, whose own folders are classes if every picture lies in one."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.resolve().name
        found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        self.paths = sorted(p for p in found if not p.name.startswith("."))
        self.total = len(self.paths)
        parts = [path.relative_to(folder).parts for path in self.paths]
        tops = {part[0] for part in parts}
        self.labelled = len(tops) > 1 and all(len(part) > 1 for part in parts)

    @property
    def identity(self) -> str:
        """Of names, sizes and times of change."""
        return _digest([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in self.paths])

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        for path in self.paths[start:]:
            inside = path.relative_to(self.folder)
            label = printable(inside.parts[0]) if self.labelled else None
            yield Item(printable(inside.as_posix()), path, label)


class ParquetSource(Source):
    """Parquet files as the `datasets` library writes them."""

    def __init__(self, paths: list[Path], name: str):
        import pyarrow.parquet as parquet

        self.paths, self.name = paths, name
        try:
            files = [parquet.ParquetFile(path) for path in paths]
        except (OSError, ValueError) as error:
            raise RissoleError(f"{name} is no readable parquet file") from error
        self.total = sum(file.metadata.num_rows for file in files)
        schema = files[0].schema_arrow
        self.image = _image_column(schema.names, paths[0].name)
        self.label = _column(schema.names, LABEL_COLUMNS)
        self.classes = _class_names(schema.metadata, self.label)

    @property
    def identity(self) -> str:
        """Of names, sizes and times of change."""
        return _digest([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self.paths])

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        number = 0
        for path in self.paths:
            for rows in self._row_groups(path, start - number):
                if isinstance(rows, int):  # skipped as a whole
                    number += rows
                    continue
                for row in rows:
                    if number >= start:
                        yield _item(self, f"{path.name} row {number}", row)
                    number += 1

    def _row_groups(self, path: Path, skip: int) -> Iterator[int | list[dict]]:
        """Rows, few at a time; numbers of rows in place of groups that are to be skipped."""
        import pyarrow.parquet as parquet

        file = parquet.ParquetFile(path)
        columns = [name for name in (self.image, self.label) if name is not None]
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if count <= skip:
                skip -= count
                yield count
                continue
            skip = 0
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                yield batch.to_pylist()


class HubSource(Source):
    """A data set on the Hugging Face Hub, streamed: nothing of it is kept on disk."""

    def __init__(self, repo_id: str, split: str, revision: str | None):
        self.name, self.split = repo_id, split
        self.commit = commit(Repo(repo_id, "dataset", revision))
        self.data = self._open()
        features = self.data.features or {}
        self.image = _image_column(features, repo_id)
        self.label = _column(features, LABEL_COLUMNS)
        self.classes = list(getattr(features.get(self.label), "names", None) or [])
        info = (self.data.info.splits or {}).get(split)
        self.total = getattr(info, "num_examples", None) or None

    def _open(self) -> Any:
        try:
            from datasets import Image, load_dataset
        except ImportError as error:
            raise RissoleError(
                "data sets from the Hub need another package: pip install datasets"
            ) from error
        # the library raises errors of several others
        try:
            data = load_dataset(self.name, split=self.split, streaming=True, revision=self.commit)
            data = data if data.features is not None else data._resolve_features()
            image = _column(data.features, IMAGE_COLUMNS)
            return data if image is None else data.cast_column(image, Image(decode=False))
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RissoleError(f"cannot read the data set {self.name}: {reason}") from error

    @property
    def identity(self) -> str:
        """Of name, commit and split."""
        return _digest([self.name, self.commit, self.split])

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        try:
            for number, row in enumerate(self.data.skip(start), start):
                yield _item(self, f"{self.split} row {number}", row)
        # network trouble has the errors of several libraries
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RissoleError(f"reading {self.name} broke off: {reason}") from error


def _column(names: Collection[str], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _image_column(names: Collection[str], where: str) -> str:
    found = _column(names, IMAGE_COLUMNS)
    if found is None:
        raise RissoleError(f"{where} has no column named image or img")
    return found


def _item(source: ParquetSource | HubSource, name: str, row: dict[str, Any]) -> Item:
    """A row of a table; a class is stored as a number, or as itself."""
    picture = row[source.image]
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    label = None if source.label is None else row[source.label]
    if isinstance(label, int) and 0 <= label < len(source.classes):
        label = source.classes[label]
    known = None if label is None or label == -1 else str(label)
    return Item(name, data if isinstance(data, bytes) else None, known)


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> list[str]:
    """Names of the classes, as the `datasets` library notes them in parquet files."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return []


def _digest(parts: list) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
