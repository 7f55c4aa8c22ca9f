"""What this machine spends: time, and memory of this process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """How long a call takes, in seconds, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _status(field: str) -> int | None:
    """A figure that Linux tells of this process, in bytes; None elsewhere."""
    path = Path("/proc/self/status")
    told = path.read_bytes() if path.exists() else b""
    found = re.search(rf"{field}:\s+(\d+) kB".encode(), told)
    return int(found[1]) * 1024 if found else None


def memory() -> float:
    """Memory of this process in MB, without mapped files where that is known."""
    if (anonymous := _status("RssAnon")) is not None:
        return anonymous / 1e6
    import psutil

    return psutil.Process().memory_info().rss / 1e6


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without a pause beside this one; stopped at the end."""
    # each ends by itself when this process does, since then its input is closed
    idle = "import sys, threading; threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)))"
    code = f"import os; {idle}.start(); print(flush=True)\nwhile True: pass"
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Highest `memory` above that at the start, in `mb`, looked at five times a second."""
    start, peak, done = memory(), {"mb": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak["mb"] = max(peak["mb"], round(memory() - start, 1))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # getrusage would also count the process that started us: Linux keeps its maximum over exec
    if (highest := _status("VmHWM")) is not None:
        return highest
    import psutil

    info: Any = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
