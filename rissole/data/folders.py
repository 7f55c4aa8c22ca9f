"""A folder of pictures as people have it: with links, notes, films, and what systems put beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.images import OWN_FILES, printable
from rissole.data.items import Item, LeftOut, Source, digest, stamps
from rissole.data.kinds import HEAD, other_kind, readable_format

# What systems and programs put among pictures, beside all that is hidden by a dot.
SERVICE = {
    "__macosx", "__pycache__", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
# Parts of a data set, as people name their folders: no classes.
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}


@dataclass
class Found:
    """What lies below a folder, in the order of the names.

    Attributes:
        pictures: files that are pictures by what is in them.
        tables: parquet files.
        left_out: all else.
    """

    pictures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def look_through(folder: Path) -> Found:
    """Looks at all files below a folder, also through links, each real folder once."""
    found = Found()
    files = sorted(_files(folder, found.left_out))
    for path in tqdm(files, "looking at files", leave=False, disable=None, delay=2):
        try:
            with path.open("rb") as file:
                head = file.read(HEAD)
        except OSError as error:
            found.left_out.append(_left(folder, path, f"unreadable: {error.strerror or error}"))
            continue
        if readable_format(head, OWN_FILES.formats):
            found.pictures.append(path)
        elif head.startswith(b"PAR1"):
            found.tables.append(path)
        else:
            kind = other_kind(head)
            what = ("not a picture in a known format",) if kind is None else kind
            reason = ", ".join(filter(None, what))
            found.left_out.append(_left(folder, path, reason))
    found.left_out.sort()
    return found


def only_split(folder: Path, paths: list[Path], split: str | None) -> list[Path]:
    """Those of some files that belong to a part of a data set, by folder or by name.

    Raises:
        RissoleError: when there are none.
    """
    if split is None:
        return paths
    kept = [
        path
        for path in paths
        if split in path.relative_to(folder).parts[:-1]
        or path.name.startswith((f"{split}-", f"{split}."))
    ]
    if not kept:
        raise RissoleError(f"{folder.name} has no part named {split!r:.42}")
    return kept


class FolderSource(Source):
    """The pictures below a folder.

    Its own folders are classes if every picture lies in one; parts of a data set (`train/`,
    `test/`) are none, the folders in them are.

    Args:
        folder: where they lie.
        paths: of them.
        left_out: what lies beside them.
        classes: by path, where something says so that lies beside them.
    """

    def __init__(
        self,
        folder: Path,
        paths: list[Path],
        left_out: list[LeftOut],
        classes: dict[Path, str] | None = None,
    ):
        self.folder, self.name = folder, folder.resolve().name
        self.paths, self.left_out, self.total = paths, left_out, len(paths)
        self.classes = classes or self._classes()

    def _classes(self) -> dict[Path, str]:
        """The class of each picture, by the folder it lies in; empty where they have none."""
        parts = {path: path.relative_to(self.folder).parts[:-1] for path in self.paths}
        if parts and all(p and p[0].lower() in SPLITS for p in parts.values()):
            parts = {path: p[1:] for path, p in parts.items()}
        tops = {p[0] if p else None for p in parts.values()}
        if len(tops) < 2 or None in tops:
            return {}
        return {path: printable(p[0]) for path, p in parts.items()}

    @property
    def identity(self) -> str:
        """Of names, sizes and times of change, and of classes that are not in the names."""
        return digest([stamps(self.paths), list(self.classes.values())])

    def items(self, start: int = 0) -> Iterator[Item]:
        """See `Source`."""
        for path in self.paths[start:]:
            inside = path.relative_to(self.folder).as_posix()
            yield Item(printable(inside), path, self.classes.get(path))


def _files(folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Regular files below a folder; real folders first, so that a link to one adds nothing."""
    waiting, links, seen = [folder], list[Path](), set()
    while waiting or links:
        current = waiting.pop() if waiting else links.pop(0)
        try:
            status = current.stat()
            entries = sorted(current.iterdir())
        except OSError as error:
            left_out.append(_left(folder, current, f"unreadable: {error.strerror or error}"))
            continue
        if (status.st_dev, status.st_ino) in seen:
            left_out.append(_left(folder, current, "a link to a folder that is there already"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if current != folder and (current / "database.json").is_file():
            left_out.append(_left(folder, current, "a database"))
            continue
        for path in entries:
            if path.name.startswith(".") or path.name.lower() in SERVICE:
                left_out.append(_left(folder, path, "hidden, or of the system"))
            elif path.is_dir():
                (links if path.is_symlink() else waiting).append(path)
            elif path.is_file():
                yield path
            else:
                reason = "a link that leads nowhere" if path.is_symlink() else "no regular file"
                left_out.append(_left(folder, path, reason))


def _left(folder: Path, path: Path, reason: str) -> LeftOut:
    return LeftOut(printable(path.relative_to(folder).as_posix()), reason)
