"""What visitors leave in the server's memory: each thing has an owner, a size and an end.

An owner is a visit, one opened page. What programs ask for leaves nothing here.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from rissole.config import RissoleError

UNSEEN = 600.0  # seconds; a phone that sleeps, or a line that broke, comes back within that time


@dataclass
class _Visit:
    pages: int = 0  # connections that say: the page is open
    seen: float = 0.0


class Presence:
    """Who has the page open.

    Args:
        unseen: seconds for which a visit counts as there after the last sign of it.
        clock: seconds of any origin.
    """

    def __init__(self, unseen: float = UNSEEN, clock: Callable[[], float] = time.monotonic):
        self.unseen, self._clock = unseen, clock
        self._visits: dict[str, _Visit] = {}
        self._lock = threading.Lock()

    def seen(self, owner: str, pages: int = 0) -> None:
        """Notes a sign of a visit; `pages` connections were opened, or closed where negative."""
        with self._lock:
            visit = self._visits.setdefault(owner, _Visit())
            visit.pages, visit.seen = max(0, visit.pages + pages), self._clock()

    def left(self, owner: str) -> None:
        """The page said that it was closed."""
        with self._lock:
            self._visits.pop(owner, None)

    def open(self, owner: str) -> bool:
        """Whether a page is open right now."""
        with self._lock:
            return owner in self._visits and self._visits[owner].pages > 0

    def here(self, owner: str) -> bool:
        """Whether a page is open, or was a short time ago."""
        with self._lock:
            visit = self._visits.get(owner)
            return visit is not None and (visit.pages > 0 or self._age(visit) < self.unseen)

    def last_seen(self, owner: str) -> float:
        """Seconds since the last sign of a visit; 0 while its page is open."""
        with self._lock:
            visit = self._visits.get(owner)
            if visit is None:
                return float("inf")
            return 0.0 if visit.pages else self._age(visit)

    def sweep(self) -> None:
        """Forgets who has not been here for long."""
        with self._lock:
            for owner, visit in list(self._visits.items()):
                if not visit.pages and self._age(visit) >= self.unseen:
                    del self._visits[owner]

    def _age(self, visit: _Visit) -> float:
        return self._clock() - visit.seen


@dataclass
class _Kept:
    value: Any
    size: int


@dataclass
class _Owned:
    things: OrderedDict[Hashable, _Kept] = field(default_factory=OrderedDict)

    @property
    def size(self) -> int:
        return sum(kept.size for kept in self.things.values())


class Belongings:
    """Things of visits, by key, within limits; nobody's things make way for those of another.

    What an owner brings beyond their limit takes the place of their own oldest. When all together
    are too much, visits whose page is closed make way, the longest unseen first; while every page
    is open, what would be too much is refused.

    Args:
        presence: who is here.
        each: bytes of one owner.
        total: bytes of all owners.
        count: things of one owner.
        full: what to say when there is no room.
    """

    def __init__(self, presence: Presence, each: int, total: int, count: int, full: str):
        self.presence, self.each, self.total = presence, each, total
        self.count, self.full = count, full
        self._owners: dict[str, _Owned] = {}
        self._owner: dict[Hashable, str] = {}  # of each key
        self._lock = threading.RLock()

    def add(self, owner: str, key: Hashable, value: Any, size: int) -> None:
        """Keeps a thing, in place of what was kept by that key.

        Args:
            size: in bytes, with all that nobody else holds.

        Raises:
            RissoleError: when there is no room for it; what was there stays.
        """
        with self._lock:
            mine = self._owners.get(owner, _Owned())
            before = mine.things[key].size if key in mine.things else 0
            if size > self.each or not self._room(owner, size - before):
                raise RissoleError(self.full)
            self.presence.seen(owner)
            self._owners[owner], self._owner[key] = mine, owner
            mine.things[key] = _Kept(value, size)
            mine.things.move_to_end(key)
            while mine.size > self.each or len(mine.things) > self.count:
                self.drop(next(iter(mine.things)))

    def get(self, key: Hashable) -> Any:
        """The thing of a key, None when there is none, or not any more."""
        with self._lock:
            owner = self._owner.get(key)
            return None if owner is None else self._owners[owner].things[key].value

    def drop(self, key: Hashable) -> None:
        """Forgets one thing."""
        with self._lock:
            owner = self._owner.pop(key, None)
            if owner is not None:
                del self._owners[owner].things[key]
                if not self._owners[owner].things:
                    del self._owners[owner]

    def forget(self, owner: str) -> None:
        """Forgets all things of an owner."""
        with self._lock:
            for key in self._owners.pop(owner, _Owned()).things:
                del self._owner[key]

    def sweep(self) -> None:
        """Forgets the things of those who are not here any more."""
        with self._lock:
            for owner in [o for o in self._owners if not self.presence.here(o)]:
                self.forget(owner)

    def size(self, owner: str | None = None) -> int:
        """Bytes of one owner, or of all."""
        with self._lock:
            if owner is not None:
                return self._owners.get(owner, _Owned()).size
            return sum(owned.size for owned in self._owners.values())

    def _room(self, owner: str, more: int) -> bool:
        """Whether there is room for more bytes of an owner, once others have made way."""
        mine = self.size(owner)
        more = min(mine + more, self.each) - mine  # beyond it the owner's own oldest go
        over = self.size() + more - self.total
        if over <= 0:
            return True
        away = [o for o in self._owners if o != owner and not self.presence.open(o)]
        if over > sum(self.size(o) for o in away):
            return False
        for other in sorted(away, key=self.presence.last_seen, reverse=True):
            if self.size() + more <= self.total:
                break
            self.forget(other)
        return True
