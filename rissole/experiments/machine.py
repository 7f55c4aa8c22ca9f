"""What this machine spends: memory of this process."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def memory() -> float:
    """Memory of this process in MB, without mapped files where that is known."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read_text())[1]) / 1000
    import psutil

    return psutil.Process().memory_info().rss / 1e6


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
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count the process that started us: Linux keeps its maximum over exec
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    import psutil

    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
