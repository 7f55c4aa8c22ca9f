"""Where pictures come from: a folder, parquet files, what `datasets` saved, or the Hub.

A source is read in one fixed order, in bounded memory, and from any place on, so that a build that
was cut off goes on where it was. What is in a file decides what it is, not what it is called, and
whatever is left out is told with the reason.
"""

from __future__ import annotations

from pathlib import Path

from rissole.config import QUOTED, RissoleError
from rissole.data.folders import FolderSource, look_through, only_split
from rissole.data.images import OWN_FILES, printable
from rissole.data.items import LeftOut, Source
from rissole.data.kinds import HEAD, Kind, other_kind, readable_format
from rissole.data.rows import ParquetSource, classes_beside, hub_source, saved_source

# what `save_to_disk` writes of a data set, and of one with parts; others have a `state.json`, too
SAVED = (("state.json", "dataset_info.json"), ("dataset_dict.json",))


def open_source(
    where: str | Path, split: str | None = None, revision: str | None = None, kept: bool = False
) -> Source:
    """Finds out what `where` is.

    Args:
        where: a folder of pictures, of parquet files (a copy of a data set on the Hub) or from
            `save_to_disk`; a parquet file; or `owner/name` of a data set on the Hub.
        split: part of a data set; None is all that there is in a folder, and `train` on the Hub.
        revision: branch, tag or commit of a data set on the Hub.
        kept: keep a data set of the Hub on this machine, for those who read it again.

    Raises:
        RissoleError: when it is none of them.
    """
    path = Path(where)
    try:
        if path.is_dir() and str(where):
            return _open_folder(path, split)
        if path.is_file():
            return _open_file(path)
    except OSError as error:
        raise RissoleError(f"cannot read {path.name[:40]}: {error.strerror or error}") from error
    parts = str(where).split("/")
    if len(parts) == 2 and all(parts) and not parts[0].startswith("."):
        return hub_source(str(where), split, revision, kept)
    shown = printable(str(where))
    shown = shown if len(shown) <= QUOTED else "..." + shown[3 - QUOTED :]
    raise RissoleError(f"no folder of pictures, no parquet file, no data set: {shown or 'nothing'}")


def _open_file(path: Path) -> Source:
    """A parquet file; what else it is, is said."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return ParquetSource([path], path.stem)
    what = "a picture, give its folder" if readable_format(head, OWN_FILES.formats) else None
    kind = other_kind(head) or Kind("no parquet file")
    raise RissoleError(
        f"{printable(path.name)[:QUOTED]} is {what or ', '.join(filter(None, kind))}"
    )


def _open_folder(folder: Path, split: str | None) -> Source:
    """Pictures or tables, whichever hold more."""
    if any(all((folder / name).is_file() for name in names) for names in SAVED):
        return saved_source(folder, split)
    found, tables = look_through(folder), None
    if found.tables:
        try:
            tables = ParquetSource(
                only_split(folder, found.tables, split), folder.resolve().name, found.left_out
            )
        except RissoleError:  # such as `metadata.parquet` beside photos
            if not found.pictures:
                raise
    rows = 0 if tables is None else tables.total or 1
    if tables is not None and rows > len(found.pictures):
        beside = [(path, "beside tables that hold more pictures") for path in found.pictures]
        tables.left_out = [*tables.left_out, *_named(folder, beside)]
        return tables
    pictures = only_split(folder, found.pictures, split) if found.pictures else []
    beside = [(path, "a parquet file, give it by itself") for path in found.tables
              if path.name != "metadata.parquet"]  # fmt: skip
    left_out = [*found.left_out, *_named(folder, beside)]
    left_out = [entry for entry in left_out if Path(entry.name).stem != "metadata"]  # it is read
    return FolderSource(folder, pictures, left_out, classes_beside(folder, pictures))


def _named(folder: Path, paths: list[tuple[Path, str]]) -> list[LeftOut]:
    return [LeftOut(path.relative_to(folder).as_posix(), reason) for path, reason in paths]
