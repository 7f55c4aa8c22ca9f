"""Files of visits, in the folder of this process: those that were sent, and those made for them.

Each lies in a folder of its own under a name nobody can guess, so that two visits with the same
photo never share a file, and belongs to one visit, or to nobody in particular. What is swept away
is told from the disk itself, so that nothing is forgotten by a process that was killed meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rissole.app.belongings import Presence
from rissole.app.uploads import private_folder
from rissole.config import RissoleError
from rissole.storage.files import writing

SENT, MADE = "sent", "made"
SENT_BYTES, MADE_BYTES = 2**29, 2**30  # of all visits together
EACH_BYTES = 2**26  # made for one visit
SENT_AGE, MADE_AGE = 600.0, 3600.0  # seconds since it was written; nothing is read for longer
NAME_BYTES = 200  # of a file's name, which disks limit to 255


@dataclass(frozen=True)
class _File:
    """A file as it lies on the disk; `owner` is a folder's name."""

    path: Path
    owner: str
    size: int
    age: float


class Disk:
    """The files of all visits.

    Args:
        presence: who is here.
        full: what to say when there is no room.
        clock: seconds since the epoch, as files have them.
    """

    def __init__(self, presence: Presence, full: str, clock: Callable[[], float] = time.time):
        self.presence, self.full, self._clock = presence, full, clock
        self._owners: dict[str, str] = {}  # of each folder's name; a visit names itself as it likes
        self._addresses: dict[str, str] = {}  # of each folder's name, too
        self._lock = threading.Lock()  # of both: a folder that is known is there, or made at once

    def new_upload(self, name: str, size: int, address: str = "") -> Path:
        """Where to write a file of a size that was sent.

        Args:
            address: who sends it, see `address.neighborhood`.

        Raises:
            RissoleError: when too much waits to be read already.
        """
        folder, found = _named(address), list(self.files(SENT))
        theirs = sum(file.size for file in found if file.owner == folder)
        everybodys = sum(file.size for file in found)
        if size + theirs > self._most(SENT_BYTES, address) or size + everybodys > SENT_BYTES:
            raise RissoleError(self.full)
        return _fresh(private_folder() / SENT / folder, name)

    def write(self, data: bytes, name: str, owner: str | None, address: str = "") -> Path:
        """Writes a file that a visit may fetch; what is too much for it takes its oldest's place.

        Args:
            owner: the visit, if it is one.
            address: who asks, see `address.neighborhood`; programs there are one owner.

        Raises:
            RissoleError: when there is no room for it.
        """
        if not owner or not self.presence.here(owner):
            owner = f"programs/{address}"  # no page leaves under such a name
        folder = _named(owner)
        with self._lock:
            self._owners[folder], self._addresses[folder] = owner, address
            self._make_room(folder, len(data))
            path = _fresh(private_folder() / MADE / folder, name)
        try:
            with writing(path, lasting=False) as file:
                file.write(data)
        except RissoleError as error:  # it says where, which is nobody's business
            shutil.rmtree(path.parent, ignore_errors=True)
            raise RissoleError(self.full) from error
        return path

    def read_once(self, path: Path) -> None:
        """Removes a file that was sent, now that it was read; any other stays."""
        if path.is_relative_to(private_folder() / SENT):
            shutil.rmtree(path.parent, ignore_errors=True)

    def forget(self, owner: str) -> None:
        """Removes all that was made for a visit."""
        folder = _named(owner)
        with self._lock:
            self._owners.pop(folder, None)
            self._addresses.pop(folder, None)
            shutil.rmtree(private_folder() / MADE / folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what is too old, and what was made for those who are not here any more."""
        for file in self.files(SENT):
            if file.age > SENT_AGE:
                shutil.rmtree(file.path.parent, ignore_errors=True)
        for file in self.files(MADE):
            lasts = MADE_AGE if self._here(file.owner) else SENT_AGE
            if file.age > lasts:
                shutil.rmtree(file.path.parent, ignore_errors=True)
        with self._lock:
            for folder in [f for f in self._owners if not (private_folder() / MADE / f).is_dir()]:
                self._owners.pop(folder, None)
                self._addresses.pop(folder, None)

    def files(self, kind: str) -> Iterator[_File]:
        """All files of a kind, as far as they are still there while one looks."""
        for folder, _, names in os.walk(private_folder() / kind):  # passes over what is gone
            for path in (Path(folder, name) for name in names):
                try:
                    facts = path.lstat()
                except OSError:
                    continue  # swept away meanwhile
                if stat.S_ISREG(facts.st_mode):
                    age = self._clock() - facts.st_mtime
                    yield _File(path, path.parent.parent.name, facts.st_size, age)

    def _make_room(self, folder: str, size: int) -> None:
        """Removes the oldest of a visit, then of those who are not here, until a file fits."""
        if size > EACH_BYTES:  # no waiting would help
            raise RissoleError(f"{size / 2**20:.0f} MB are too much: {EACH_BYTES // 2**20} at most")
        found = sorted(self.files(MADE), key=lambda file: -file.age)
        mine = [file for file in found if file.owner == folder]
        gone = _removed(mine, size + _bytes(mine) - EACH_BYTES)
        address = self._addresses[folder]
        near = [file for file in found if self._addresses.get(file.owner) == address]
        for files, most in ((near, self._most(MADE_BYTES, address)), (found, MADE_BYTES)):
            left = [file for file in files if file not in gone]
            away = [f for f in left if f.owner != folder and not self._here(f.owner)]
            over = size + _bytes(left) - most
            if over > _bytes(away):
                raise RissoleError(self.full)
            gone |= _removed(away, over)

    def _most(self, total: int, address: str) -> float:
        """Bytes that one address may have of what all may; an unknown one may have all."""
        return total * self.presence.share if address else total

    def _here(self, folder: str) -> bool:
        return self.presence.here(self._owners.get(folder, ""))


def _fresh(folder: Path, name: str) -> Path:
    """A path that was not there before, for a file of a name that may come from anybody."""
    plain = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "", name).strip(". ")
    short = plain.encode(errors="replace")[-NAME_BYTES:].decode(errors="ignore") or "file"
    path = folder / secrets.token_urlsafe(18) / short
    path.parent.mkdir(parents=True)
    return path


def _removed(files: list[_File], size: float) -> set[_File]:
    """Removes files in order until so many bytes are free; which those are."""
    gone: set[_File] = set()
    for file in files:
        if _bytes(gone) >= size:
            break
        shutil.rmtree(file.path.parent, ignore_errors=True)
        gone.add(file)
    return gone


def _bytes(files: Iterable[_File]) -> int:
    return sum(file.size for file in files)


def _named(owner: str) -> str:
    """The name of the folder of a visit or an address, which may call itself anything."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]
