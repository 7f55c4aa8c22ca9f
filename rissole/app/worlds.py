"""The bundles that a server has on offer: loaded when they are needed, a few at a time."""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline
from rissole.storage.resolve import bundled_names

log = logging.getLogger(__name__)

KEPT = 3  # bundles whose networks are in memory at a time


class Room:
    """Where the networks of bundles are kept; those used last stay.

    Args:
        most: of how many bundles.
    """

    def __init__(self, most: int = KEPT):
        self.most = most
        self._used: dict[World, None] = {}  # the one that was used last at the end
        self._lock = threading.Lock()

    def use(self, world: World) -> None:
        """Notes that a bundle is in use; the networks of another may make way for it."""
        with self._lock:
            self._used.pop(world, None)
            self._used[world] = None
            away = list(self._used)[: -self.most]
            for other in away:
                del self._used[other]
        for other in away:
            other.unload()


class World:
    """One bundle on offer. Its networks come and go; what it is called and its database stay.

    Args:
        load: gives its pipeline, the same one each time. Never called with what a visitor sent.
        room: where its networks are kept; for good if left out.

    Attributes:
        name: of the bundle.
        key: fingerprint of its database.
        fingerprint: of its weights.
        database: the pictures that it opens with.
        folder: where the bundle lies.
        shared: its pipelines with other databases, by their keys, for as long as it is loaded.
    """

    def __init__(self, load: Callable[[], RissolePipeline], room: Room | None = None):
        self._load, self._room, self._lock = load, room, threading.Lock()
        self._pipe: RissolePipeline | None = None
        self._last: Callable[[], RissolePipeline | None] = lambda: None
        self.shared: dict[str, RissolePipeline] = {}
        pipe = self.pipe
        self.name, self.folder = pipe.config["name"], pipe.folder
        self.key, self.fingerprint = pipe.database.fingerprint, pipe.fingerprint

    @property
    def pipe(self) -> RissolePipeline:
        """The pipeline, loaded if it is not in memory.

        Raises:
            RissoleError: when the bundle was damaged or taken away since.
        """
        with self._lock:
            if self._pipe is None:  # where somebody still holds the last one, that is it
                self._pipe = self._last() or self._load()
                self._last, self.database = weakref.ref(self._pipe), self._pipe.database
            pipe = self._pipe
        if self._room is not None:
            self._room.use(self)
        return pipe

    @property
    def loaded(self) -> bool:
        """Whether its networks are in memory for its own sake."""
        return self._pipe is not None

    def unload(self) -> None:
        """Lets go of its networks; who is painting with them goes on."""
        with self._lock:
            self._pipe, self.shared = None, {}
        give_back()


def give_back() -> None:
    """Returns to the system what nobody holds any more: C's own store keeps it otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a system with another C library does it by itself
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def offered(options: argparse.Namespace) -> tuple[World, list[World]]:
    """The world that opens first, and the others, by the options of the app.

    A bundled one that cannot be opened is left out, unless it was asked for by name.

    Raises:
        RissoleError: when one that was asked for cannot be opened.
    """
    room, first = Room(), options.bundle
    load = RissolePipeline.from_pretrained
    own = partial(load, first, options.revision, database=options.database)
    opening, bundled = World(own, room), bundled_names()
    named = None if options.worlds is None else options.worlds.split(",")
    more = bundled if named is None and first in bundled else named or []
    others = []
    for name in dict.fromkeys(each.strip() for each in more):
        if name not in ("", first):
            try:
                others.append(World(partial(load, name), room))
            except RissoleError as error:
                if named is not None:
                    raise
                log.warning("%s is left out: %s", name, error)
    return opening, others
