"""What a source of pictures is, and what it tells of the files that it leaves out."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rissole.config import QUOTED, RissoleError

NAMED = 3  # files that a summary names of each reason


class Item(NamedTuple):
    """One picture, not yet looked at.

    Attributes:
        name: for messages.
        data: the file, or its bytes; None where a row holds no picture.
        label: its class, if the source knows one.
        file: what a table calls the file whose bytes it holds.
    """

    name: str
    data: bytes | Path | None
    label: str | None = None
    file: str | None = None

    def among(self, names: Collection[str]) -> bool:
        """Whether a list has it, by its file name or by its path in the source."""
        return Path(self.file or self.name).name in names or self.name in names


class LeftOut(NamedTuple):
    """A file, or a row of a table, that is not taken, and why."""

    name: str
    reason: str


class Source(ABC):
    """Pictures in a fixed order.

    Attributes:
        name: for people.
        total: how many there are, None when that is not known.
        left_out: what was found beside them.
    """

    name: str
    total: int | None = None
    left_out: Sequence[LeftOut] = ()

    @property
    @abstractmethod
    def identity(self) -> str:
        """Changes when the pictures or their order do."""

    @abstractmethod
    def items(self, start: int = 0) -> Iterator[Item]:
        """All pictures from number `start` on."""


def read_names(path: Path) -> frozenset[str]:
    """The file names in a list: one a line; what follows a tab, and lines with #, are remarks.

    Raises:
        RissoleError: when it cannot be read, or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise RissoleError(f"cannot read {path.name[:QUOTED]}: {reason}") from error
    names = (line.partition("\t")[0].strip() for line in lines if not line.startswith("#"))
    found = frozenset(filter(None, names))
    if not found:
        raise RissoleError(f"{path.name[:QUOTED]} names no files")
    return found


def digest(parts: list) -> str:
    """Stands for what makes a source what it is."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def stamps(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of files."""
    return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]


def reasons(left_out: Sequence[LeftOut]) -> list[str]:
    """Why files were left out: a line per reason with its count and the first names."""
    groups: dict[str, list[str]] = {}
    for name, reason in left_out:
        # what a decoder says begins with the file's name
        short = reason.removeprefix(Path(name).name).removeprefix(" is").strip()
        groups.setdefault(short, []).append(name)
    lines = []
    for reason, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        more = ", ..." if len(names) > NAMED else ""
        lines.append(f"{len(names)} x {reason} ({', '.join(names[:NAMED])}{more})")
    return lines


def summary(left_out: Sequence[LeftOut], all_in: str) -> str:
    """What was left out, for people; empty for nothing.

    Args:
        left_out: all of it.
        all_in: where every file is named.
    """
    lines = reasons(left_out)
    hidden = any(line.endswith(", ...)") for line in lines)
    title = f"left out: {len(left_out):,}" + (f", all named by {all_in}" if hidden else "")
    return "\n  ".join([title, *lines]) if lines else ""


def nothing_in(name: str, left_out: Sequence[LeftOut]) -> str:
    """Why there is no picture in a source, in one line."""
    because = "; ".join(reasons(left_out)[:NAMED])
    return f"no pictures found in {name}" + (f": {because}" if because else "")
