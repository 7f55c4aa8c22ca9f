"""Tables of pictures, as the `datasets` library writes them: parquet, its folders, the Hub."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rissole.config import RissoleError
from rissole.data.images import OWN_FILES, printable
from rissole.data.items import Item, LeftOut, Source, digest, stamps
from rissole.storage.hub import Repo, commit

IMAGE_COLUMNS = (
    "image", "img", "images", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes",
    "bytes", "file", "file_name", "filename", "path", "image_path",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_label", "category", "target")
FILE_NAMES = ("file_name", "filename", "image", "path")
ARCHIVES = tuple(f"{kind}://" for kind in ("zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd"))
ROWS = 32  # of a parquet file in memory at a time


class Columns(NamedTuple):
    """Where in a table the pictures are.

    Attributes:
        image: the column of the pictures.
        label: that of their classes.
        names: of the classes, where these are numbers.
        many: whether a row may hold several pictures.
    """

    image: str
    label: str | None
    names: list[str]
    many: bool

    @classmethod
    def find(cls, schema: Any, where: str) -> Columns:
        """Finds them by type and name.

        Args:
            schema: of pyarrow, with what the `datasets` library notes in it.
            where: the table, for messages.

        Raises:
            RissoleError: when there are none.
        """
        fits = {field.name: _holds_pictures(field.type) for field in schema}
        known = {name.lower(): name for name in reversed(schema.names)}
        named = [known[name] for name in IMAGE_COLUMNS if name in known]
        typed = [name for name, fit in fits.items() if fit == "bytes"]
        found = next((name for name in (*named, *typed) if fits[name]), None)
        if found is None:
            raise RissoleError(f"{where} has no column named image or img, nor any of pictures")
        labels = (known[name] for name in LABEL_COLUMNS if name in known)
        label = next((name for name in labels if name != found), None)
        names = _class_names(schema.metadata, label)
        return cls(found, label, names, _element(schema.field(found).type) is not None)

    @property
    def both(self) -> list[str]:
        """What is read of a table."""
        return [self.image] if self.label is None else [self.image, self.label]

    def items(self, row: Mapping[str, Any], name: str, folder: Path | None) -> Iterator[Item]:
        """The pictures of a row, one unless the column holds several.

        Args:
            row: values by column.
            name: of the row, for messages.
            folder: where paths in it lead from; None for a table of strangers, of which no
                path may lead to a file here.
        """
        label = None if self.label is None else class_name(row[self.label], self.names)
        values = (row[self.image] or [None]) if self.many else [row[self.image]]
        for number, value in enumerate(values):
            data, file = (
                _data(value, folder),
                value.get("path") if isinstance(value, dict) else value,
            )
            file = file if isinstance(file, str) else None
            yield Item(f"{name}.{number}" if len(values) > 1 else name, data, label, file)


class ParquetSource(Source):
    """Parquet files; they need not have the same columns.

    Args:
        paths: of the files.
        name: for people.
        left_out: what lies beside them.

    Raises:
        RissoleError: when none of them has pictures.
    """

    def __init__(self, paths: Sequence[Path], name: str, left_out: Sequence[LeftOut] = ()):
        self.name, self.tables, faults, rows = name, {}, [], 0
        for path in paths:
            try:
                file = _opened(path)
                self.tables[path] = Columns.find(file.schema_arrow, path.name)
                rows += file.metadata.num_rows
            except RissoleError as error:
                faults.append(LeftOut(printable(path.name), str(error)))
        if not self.tables:
            raise RissoleError(faults[0].reason)
        self.left_out = [*left_out, *faults]
        self.total = None if any(columns.many for columns in self.tables.values()) else rows

    @property
    def identity(self) -> str:
        """Of names, sizes and times of change."""
        return digest([(Path(name).name, *rest) for name, *rest in stamps(list(self.tables))])

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        number = 0
        for path, columns in self.tables.items():
            file, row = _opened(path), 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if not columns.many and number + count <= start:  # skipped as a whole
                    number, row = number + count, row + count
                    continue
                for values in _rows(file, group, columns.both, path.name):
                    for item in columns.items(values, f"{path.name} row {row}", path.parent):
                        if number >= start:
                            yield item
                        number += 1
                    row += 1


class DatasetSource(Source):
    """Rows of a `datasets.Dataset`, or of one that is streamed.

    Args:
        name: for people.
        data: the rows.
        identity: changes when they do.
        total: how many there are, None when that is not known.
        folder: where paths in them lead from, see `Columns.items`.
    """

    def __init__(
        self, name: str, data: Any, identity: str, total: int | None, folder: Path | None = None
    ):
        self.name, self._identity, self._folder = name, identity, folder
        self.columns = Columns.find(data.features.arrow_schema, name)
        self.total = None if self.columns.many else total
        self.data = data.select_columns(self.columns.both)
        self.data = _undecoded(self.data, self.columns.image)

    @property
    def identity(self) -> str:
        """See `Source`."""
        return self._identity

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        number, first = 0, 0 if self.columns.many else start
        try:
            for row, values in enumerate(self.data.skip(first), first):
                for item in self.columns.items(values, f"row {row}", self._folder):
                    if self.columns.many and number < start:
                        number += 1
                        continue
                    yield item
        # the library and what it reads through have the errors of several others
        except Exception as error:
            raise RissoleError(f"reading {self.name} broke off: {_line(error)}") from error


def saved_source(folder: Path, split: str | None) -> Source:
    """What `save_to_disk` of the `datasets` library wrote; all of its parts unless one is named.

    Raises:
        RissoleError: when it cannot be read, or has no such part.
    """
    from datasets import DatasetDict, concatenate_datasets, load_from_disk

    try:
        data = load_from_disk(str(folder))
        if isinstance(data, DatasetDict):
            parts = list(data.values()) if split is None else [_part(data, split, folder.name)]
            data = concatenate_datasets(parts)
    except RissoleError:
        raise
    except Exception as error:
        raise RissoleError(f"cannot read the data set {folder.name}: {_line(error)}") from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    identity = digest([split, *stamps(files)])
    return DatasetSource(folder.resolve().name, data, identity, len(data), folder)


def hub_source(repo_id: str, split: str | None, revision: str | None, kept: bool = False) -> Source:
    """A data set on the Hugging Face Hub, streamed: nothing of it is kept on disk.

    Args:
        repo_id: owner/name.
        split: its part; None is `train`, or the first one where there is no such.
        revision: branch, tag or commit.
        kept: download it to the cache of the `datasets` library, for those who read it again.

    Raises:
        RissoleError: when there is no such data set, or it cannot be read.
    """
    from datasets import load_dataset

    newest = commit(Repo(repo_id, "dataset", revision))
    try:
        parts = load_dataset(repo_id, streaming=not kept, revision=newest)
        wanted = split or ("train" if "train" in parts else next(iter(parts)))
        data = _part(parts, wanted, repo_id)
        data = data if data.features is not None else data._resolve_features()
    except RissoleError:
        raise
    except Exception as error:
        raise RissoleError(f"cannot read the data set {repo_id}: {_line(error)}") from error
    info = (data.info.splits or {}).get(wanted)
    total = getattr(info, "num_examples", None) or None
    return DatasetSource(repo_id, data, digest([repo_id, newest, wanted]), total)


def classes_beside(folder: Path, pictures: Sequence[Path]) -> dict[Path, str]:
    """The classes that `metadata.parquet`, `.csv` or `.jsonl` beside pictures gives them."""
    found = {}
    for place in sorted({path.parent for path in pictures} | {folder}):
        for row, names in _metadata(place):
            known = {key.lower(): value for key, value in row.items() if key}
            file = next((known[key] for key in FILE_NAMES if isinstance(known.get(key), str)), None)
            label = next((known[key] for key in LABEL_COLUMNS if key in known), None)
            if file is not None and (label := class_name(label, names)) is not None:
                found[place / file] = label
    return {path: found[path] for path in pictures if path in found}


def class_name(value: Any, names: Sequence[str] = ()) -> str | None:
    """A class as text, however a table stores it; None for none.

    Args:
        value: a number, text, bytes, or a list of these.
        names: of the classes, where they are numbers.
    """
    if isinstance(value, (list, tuple)):
        several = [name for part in value if (name := class_name(part, names)) is not None]
        return ", ".join(several) or None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float):
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    if value is None or value == -1:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        value = names[value]
    return printable(str(value)).strip() or None


def _holds_pictures(kind: Any) -> str | None:
    """Whether a type of Arrow can hold pictures: their bytes, or paths to them."""
    import pyarrow.types as types

    kind = _element(kind) or kind
    if types.is_struct(kind):
        inside = {kind.field(i).name for i in range(kind.num_fields)}
        return "bytes" if inside & {"bytes", "path"} else None
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "bytes"
    return "path" if types.is_string(kind) or types.is_large_string(kind) else None


def _element(kind: Any) -> Any:
    """What a list of Arrow is of; None for a type that is no list."""
    import pyarrow.types as types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return kind.value_type if any(check(kind) for check in lists) else None


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> list[str]:
    """Names of the classes, as the `datasets` library notes them in a schema."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
        names = feature.get("feature", feature)["names"]
        return list(names.values() if isinstance(names, dict) else names)
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _data(value: Any, folder: Path | None) -> bytes | Path | None:
    """A picture as a table stores it: bytes, a path, or both of which one may be missing."""
    path = value.get("path") if isinstance(value, dict) else value
    value = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(value, bytes):
        return value
    if not isinstance(path, str) or not path:
        return None
    if folder is None:
        if not _on_the_hub(path):
            return None
        from datasets.utils.file_utils import xopen

        with xopen(path, "rb") as file:
            return file.read(OWN_FILES.bytes + 1)  # more than may be is refused by who decodes it
    with contextlib.suppress(OSError):  # too long for a name
        if not (folder / path).is_file() and (folder / Path(path).name).is_file():
            return folder / Path(path).name
    return folder / path  # where it is absolute, itself


def _on_the_hub(path: str) -> bool:
    """Whether a path leads to a file there, or into an archive there: `zip://a.png::hf://...`.

    The library opens what comes first here, and there may be anything: `/home/me/a.png::hf://...`.
    """
    *inside, there = path.split("::")
    return there.startswith("hf://") and all(hop.startswith(ARCHIVES) for hop in inside)


def _opened(path: Path) -> Any:
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise RissoleError(f"{printable(path.name)} is no readable parquet file") from error


def _rows(file: Any, group: int, columns: list[str], name: str) -> Iterator[dict[str, Any]]:
    try:
        for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise RissoleError(f"{printable(name)} is damaged: {_line(error)}") from error


def _undecoded(data: Any, image: str) -> Any:
    """The same rows with pictures as files: decoding them is for `load_image`."""
    from datasets import Image, List

    kind = data.features[image]
    if isinstance(kind, Image):
        return data.cast_column(image, Image(decode=False))
    if isinstance(getattr(kind, "feature", None), Image):
        return data.cast_column(image, List(Image(decode=False)))
    return data


def _part(parts: Mapping[str, Any], split: str, name: str) -> Any:
    if split not in parts:
        known = ", ".join(map(str, list(parts)[:8]))
        raise RissoleError(f"{name} has no part named {split!r:.42}, it has {known}")
    return parts[split]


def _metadata(folder: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Rows of a table beside pictures, and names of classes in it; none where it is odd."""
    table = folder / "metadata.parquet"
    try:
        if table.is_file():
            rows = _opened(table).read()
            columns = [name for name in rows.schema.names if name.lower() in LABEL_COLUMNS]
            names = _class_names(rows.schema.metadata, columns[0] if columns else None)
            yield from ((row, names) for row in rows.to_pylist())
        elif table.with_suffix(".csv").is_file():
            with table.with_suffix(".csv").open(encoding="utf-8-sig", newline="") as file:
                yield from ((row, []) for row in csv.DictReader(file))
        elif table.with_suffix(".jsonl").is_file():
            with table.with_suffix(".jsonl").open(encoding="utf-8") as file:
                rows = (json.loads(line) for line in file if line.strip())
                yield from ((row, []) for row in rows if isinstance(row, dict))
    except (OSError, ValueError, csv.Error):
        return  # the pictures are there all the same


def _line(error: Exception) -> str:
    """A foreign error as part of one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
