"""Whose turn it is to compute: fair between visitors, small jobs first, nothing for those who left.

All of it runs in the event loop of the server, so that nothing needs a lock; only the steps of the
jobs themselves run in threads, see `pace`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rissole.app.limits import Limits

SMALL = 8.0  # evaluations, see `cost`: a draft, which one does not want to wait for
SMALL_IN_A_ROW = 3  # then a long job gets a slice, if one waits
SLICE, FIRM = 2.0, 0.5  # seconds: of a turn while others wait, and when a small job wants in
UNHEARD = 60.0  # seconds that a job waits for somebody to listen to its answer
MOST_UNHEARD = 128
REMEMBERED = 1000  # clients whose last turn is known


class LeftError(Exception):
    """Nobody waits for a job any more: the client left, or wished for something newer."""


class BusyError(Exception):
    """There is no room; it may be worth trying again after so many seconds."""

    def __init__(self, seconds: int):
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        address: of the network.
        name: of the visit, or of all programs at one address.
        streams: names of the streams on which answers may be awaited.
        program: whether it is no page.
    """

    address: str
    name: str
    streams: frozenset[str] = frozenset()
    program: bool = False


@dataclass(eq=False)
class Job:
    """Something to compute, step by step.

    Attributes:
        client: who wants it.
        kind: a newer job of one kind takes the place of an older one of the same visit; None for
            what never replaces anything.
        work: in evaluations, see `cost`; 0 while it is not known, which is as good as none.
        spent: seconds computed so far.
    """

    client: Client
    kind: str | None = None
    work: float = 0.0
    spent: float = 0.0
    number: int = 0
    began: float = field(default_factory=time.monotonic)
    heard: bool = False
    admitted: bool = False
    late: bool = False
    left: bool = False
    waits: bool = False
    holds: bool = False
    firm: bool = False
    since: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def small(self) -> bool:
        """Whether it will be over soon."""
        return self.work <= SMALL


class Turns:
    """Hands out turns: a job that has one may compute until its slice is over.

    Args:
        limits: how many at once, and how many may wait.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._jobs: list[Job] = []
        self._listening: Counter[str] = Counter()
        self._served: OrderedDict[str, int] = OrderedDict()
        self._numbers = itertools.count(1)
        self._small_in_a_row = 0
        self._seconds_each = 0.05  # of one evaluation; learned

    # -- who is there

    def opened(self, stream: str) -> None:
        """Somebody listens to a stream."""
        self._listening[stream] += 1
        for job in self._on(stream):
            job.heard = True
            job.ready.set()

    def closed(self, stream: str, cut: bool) -> None:
        """A stream has ended; `cut` by whoever listened, before all was said."""
        self._listening[stream] -= 1
        if self._listening[stream] <= 0:
            del self._listening[stream]
            if cut:
                self._dismiss(self._on(stream))

    def _on(self, stream: str) -> list[Job]:
        return [job for job in self._jobs if stream in job.client.streams]

    def _dismiss(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            job.left = True
            job.ready.set()

    # -- coming and going

    def enter(self, job: Job) -> None:
        """A job comes; an older one of its kind and visit is not wanted any more."""
        job.number = next(self._numbers)
        streams = job.client.streams  # without any, the answer goes to who called
        job.heard = not streams or any(stream in self._listening for stream in streams)
        if job.kind is not None:
            same = (job.client.name, job.kind)
            self._dismiss(old for old in self._jobs if (old.client.name, old.kind) == same)
        unheard = [old for old in self._jobs if not old.heard]
        self._dismiss(unheard[: max(0, len(unheard) + 1 - MOST_UNHEARD)])
        self._jobs.append(job)

    def leave(self, job: Job) -> None:
        """A job is over, however it ended."""
        self._jobs.remove(job)
        job.waits = job.holds = False
        self._hand_out()

    async def heard(self, job: Job) -> None:
        """Waits until somebody listens to the answer: what nobody hears is not computed.

        Raises:
            LeftError: when nobody comes, or whoever came has left.
        """
        while not job.heard:
            if time.monotonic() - job.began > UNHEARD:
                raise LeftError
            await self.pause(job, 1.0)

    def admit(self, job: Job) -> None:
        """Lets a job stand in line.

        Raises:
            BusyError: when the line is full.
        """
        inside = [other for other in self._jobs if other.admitted and not other.left]
        same = [other for other in inside if other.client.name == job.client.name]
        near = [other for other in inside if other.client.address == job.client.address]
        places = self.limits.queue + self.limits.at_once
        full = len(inside) >= places or len(near) >= max(1, places * self.limits.share // 100)
        if full or (job.client.program and len(same) >= self.limits.each):
            raise BusyError(max(1, min(60, round(self._ahead(same or near or inside)))))
        job.admitted = True

    # -- turns

    async def turn(self, job: Job, patience: float) -> bool:
        """Waits for a turn, for so many seconds at most; returns whether the job has it.

        Raises:
            LeftError: when nobody wants it any more.
        """
        if not job.holds and not job.left:
            job.waits = True
            self._hand_out()
        if job.left or not job.holds:
            await self.pause(job, patience)
        return job.holds

    def rest(self, job: Job, seconds: float) -> None:
        """A step is done, which took so long; the turn is over if others should have theirs."""
        job.spent += seconds
        others = [other for other in self._jobs if other.waits]
        held = time.monotonic() - job.since
        hurry = not job.small and any(other.small for other in others)
        # a newer wish of the same page may say that this one is not wanted any more
        mine = [] if job.client.program else [o for o in others if o.client.name == job.client.name]
        newer = any(other.number > job.number for other in mine)
        if newer or (others and held > SLICE) or (hurry and held > FIRM * job.firm):
            job.holds = False
            self._hand_out()

    def learn(self, job: Job) -> None:
        """A job was finished: what it took tells how long others will have to wait."""
        if job.work >= 1:
            self._seconds_each += 0.2 * (job.spent / job.work - self._seconds_each)

    def place(self, job: Job) -> tuple[int, int]:
        """Where a job stands that waits: (how many are before it, seconds that they will take)."""
        before = [other for other in self._jobs if other.admitted and other.number < job.number]
        return len(before), max(1, round(self._ahead(before)))

    def _ahead(self, jobs: Iterable[Job]) -> float:
        """Seconds that jobs still need."""
        left = (max(0.1, job.work * self._seconds_each - job.spent) for job in jobs)
        return sum(left) / self.limits.at_once

    def _hand_out(self) -> None:
        while sum(job.holds for job in self._jobs) < self.limits.at_once:
            job = self._next()
            if job is None:
                return
            job.waits, job.holds, job.since = False, True, time.monotonic()
            job.ready.set()
            for name in (job.client.address, job.client.name):
                self._served[name] = next(self._numbers)
                self._served.move_to_end(name)
            while len(self._served) > REMEMBERED:
                self._served.popitem(last=False)

    def _next(self) -> Job | None:
        """Who is next: small jobs before long ones, but not for ever; then whose turn was longest
        ago, by address, then by visit."""
        waiting = [job for job in self._jobs if job.waits]
        small = [job for job in waiting if job.small]
        long = [job for job in waiting if not job.small]
        if small and (not long or self._small_in_a_row < SMALL_IN_A_ROW):
            pool, self._small_in_a_row = small, self._small_in_a_row + 1
        else:
            pool, self._small_in_a_row = long, 0

        def last_turn(job: Job) -> tuple[int, int, int]:
            names = job.client.address, job.client.name
            address, visit = (self._served.get(name, 0) for name in names)
            return address, visit, job.number

        chosen = min(pool, key=last_turn, default=None)
        if chosen is not None:
            chosen.firm = bool(small)  # a slice out of turn is worth having
        return chosen

    async def pause(self, job: Job, seconds: float) -> None:
        """Waits until something happens to a job, or so long.

        Raises:
            LeftError: when nobody wants it any more.
        """
        if not job.left:
            job.ready.clear()
            with contextlib.suppress(asyncio.TimeoutError):  # no TimeoutError before Python 3.11
                await asyncio.wait_for(job.ready.wait(), seconds)
        if job.left:
            raise LeftError
