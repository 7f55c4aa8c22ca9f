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
    address: str
    pages: int = 0  # connections that say: the page is open
    seen: float = 0.0


class Presence:
    """Who has the page open.

    Args:
        unseen: seconds for which a visit counts as there after the last sign of it.
        clock: seconds of any origin.
        most: visits of one address.
        share: of the room for all, from 0 to 1, that the visits of one address may have.
    """

    def __init__(
        self,
        unseen: float = UNSEEN,
        clock: Callable[[], float] = time.monotonic,
        most: int = 10**6,
        share: float = 1.0,
    ):
        self.unseen, self._clock, self.most, self.share = unseen, clock, most, share
        self._visits: dict[str, _Visit] = {}
        self._lock = threading.Lock()

    def seen(self, owner: str, pages: int = 0, address: str = "") -> bool:
        """Notes a sign of a visit.

        Args:
            pages: so many connections were opened, or closed where negative.
            address: whose visit it is, as of its first sign; empty where nobody knows.

        Returns:
            False for a visit more than its address may have; those whose page is closed make way.
        """
        with self._lock:
            new = owner not in self._visits
            if new and (pages < 0 or not self._let_in(address)):  # or it has said that it is closed
                return False
            visit = self._visits.setdefault(owner, _Visit(address))
            visit.pages, visit.seen = max(0, visit.pages + pages), self._clock()
            return True

    def _let_in(self, address: str) -> bool:
        near = {o: v for o, v in self._visits.items() if v.address == address}
        if not address or len(near) < self.most:
            return True
        away = [owner for owner, visit in near.items() if not visit.pages]
        if away:
            del self._visits[min(away, key=lambda owner: near[owner].seen)]
        return bool(away)

    def address(self, owner: str) -> str:
        """Whose a visit is; empty where nobody knows."""
        with self._lock:
            visit = self._visits.get(owner)
            return "" if visit is None else visit.address

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
    are too much, or those of one address, visits whose page is closed make way, the longest unseen
    first; while every page is open, what would be too much is refused.

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

    def add(self, owner: str, key: Hashable, value: Any, size: int, address: str = "") -> None:
        """Keeps a thing, in place of what was kept by that key.

        Args:
            size: in bytes, with all that nobody else holds.
            address: whose visit the owner is, see `Presence.seen`.

        Raises:
            RissoleError: when there is no room for it; what was there stays.
        """
        with self._lock:
            mine = self._owners.get(owner, _Owned())
            before = mine.things[key].size if key in mine.things else 0
            here = size <= self.each and self.presence.seen(owner, 0, address)
            if not here or not self._room(owner, size - before):
                raise RissoleError(self.full)
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
        mine, address = self.size(owner), self.presence.address(owner)
        more = min(mine + more, self.each) - mine  # beyond it the owner's own oldest go
        near = [o for o in self._owners if self.presence.address(o) == address]
        share = self.total * self.presence.share if address else self.total
        return self._made(near, owner, more, share) and self._made(
            list(self._owners), owner, more, self.total
        )

    def _made(self, owners: list[str], owner: str, more: int, most: float) -> bool:
        """Whether some owners have no more than `most`, once the others among them made way."""
        over = sum(map(self.size, owners)) + more - most
        away = [o for o in owners if o != owner and not self.presence.open(o)]
        if over > sum(map(self.size, away)):
            return False
        for other in sorted(away, key=self.presence.last_seen, reverse=True):
            if over <= 0:
                break
            over -= self.size(other)
            self.forget(other)
        return True
