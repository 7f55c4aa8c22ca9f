"""Decodes pictures that came from outside, one at a time, in a process of its own.

A decoder that crashes, or wants more memory or time than it may have, takes the picture with it
and not the server.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as LateError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

from PIL import Image

from rissole.config import RissoleError
from rissole.data.images import VISITOR, load_square, printable

MEMORY = 2**30  # bytes on top of what the process has when it begins
SECONDS = 20.0  # for one picture
STARTING = 120.0  # seconds; three are usual, and a machine may be busy
PATIENCE = 90.0  # of decoding, for all photos of one visit; a thirtieth of a second each is usual


class Reader:
    """Decodes in a process that is started when it is needed, and anew when it died."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def begin(self) -> None:
        """Starts the process in the background, so that nobody waits for it."""

        def start() -> None:
            with self._turn, contextlib.suppress(BrokenProcessPool, LateError, OSError):
                self._pool = self._pool or _started()

        threading.Thread(target=start, name="decoder", daemon=True).start()

    def square(self, path: Path, size: int) -> Image.Image:
        """The largest centered square of a picture, `size` pixels wide; see `load_square`.

        Raises:
            RissoleError: when it is no picture, too large, or too much for the process.
        """
        with self._turn:
            try:
                self._pool = self._pool or _started()
                job = self._pool.submit(_read, str(path), size)
                return Image.frombytes("RGB", (size, size), job.result(SECONDS))
            except (BrokenProcessPool, LateError):
                self._end()
        raise RissoleError(f"{printable(path.name)[:40]} is damaged and cannot be decoded")

    def squares(
        self, paths: Iterable[Path], size: int, late: str
    ) -> Iterator[Image.Image | RissoleError]:
        """Pictures of one visit, one by one; in place of one that is left out, why.

        Args:
            paths: of any files.
            size: their side in pixels.
            late: what to say of those that there was no time for, with a place for the name.
        """
        spent = 0.0
        for path in paths:
            began = time.monotonic()
            try:
                if spent > PATIENCE:
                    raise RissoleError(late.format(name=printable(path.name)[:40]))
                read: Image.Image | RissoleError = self.square(path, size)
            except RissoleError as error:
                read = error
            spent += time.monotonic() - began
            yield read

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()  # it may be in the middle of a picture
            pool.shutdown(wait=False, cancel_futures=True)


@functools.cache
def reader() -> Reader:
    """The one of this process."""
    return Reader()


def _started() -> ProcessPoolExecutor:
    methods = multiprocessing.get_all_start_methods()
    # no fork of this process, whose threads may hold locks
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(1, context, _begin)
    pool.submit(int).result(STARTING)
    return pool


def _begin() -> None:
    """What the process does first: it ends with the server, however that ends, and is bounded."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with contextlib.suppress(ImportError, OSError, ValueError):  # as far as the system has it
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _end_with(parent: int) -> None:
    wait([parent])
    os._exit(1)


def _read(path: str, size: int) -> bytes:
    return load_square(path, size, VISITOR).tobytes()
