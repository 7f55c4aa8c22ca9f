"""A server in a process of its own, and what it holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

ROOT = Path(__file__).parents[1]
# the app, with a note of every connection that anything in it begins
NOTED = """
import sys
def note(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("CONNECT", event, given[1:] if event == "socket.connect" else given, flush=True)
sys.addaudithook(note)
from rissole.app.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class Server(NamedTuple):
    address: str
    process: subprocess.Popen
    files: Path
    log: Path
    http: httpx.Client

    def figures(self) -> dict[str, float]:
        """What the process holds: memory, threads, open files, and bytes on the disk."""
        of = Path(f"/proc/{self.process.pid}")
        files = [file for file in self.files.rglob("*") if file.is_file()]
        return {
            "MB": _status(self.process.pid)["VmRSS"] / 1024,
            "threads": _status(self.process.pid)["Threads"],
            "open": len(list((of / "fd").iterdir())),
            "disk MB": sum(file.stat().st_size for file in files) / 2**20,
        }

    def peaks(self) -> tuple[float, float]:
        """MB that the process held at most so far, and the one that decodes pictures."""
        others = psutil.Process(self.process.pid).children(recursive=True)
        peaks = [_status(other.pid)["VmHWM"] / 1024 for other in others]
        return _status(self.process.pid)["VmHWM"] / 1024, max(peaks, default=0.0)


def _status(number: int) -> dict[str, int]:
    text = Path(f"/proc/{number}/status").read_text()
    return {name: int(value) for name, value in re.findall(r"(\w+):\s+(\d+)", text)}


@contextmanager
def serving(bundle: Path, folder: Path) -> Iterator[Server]:
    """Starts the app with a bundle; what it writes lies in a folder."""
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "files")}
    command = [sys.executable, "-u", "-c", NOTED, "--bundle", str(bundle)]
    with (folder / "log").open("w") as log:
        said = {"stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **said)
        found = None
        deadline = time.monotonic() + 240
        while found is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found = re.search(r"http://\S+", (folder / "log").read_text())
        try:
            assert found, (folder / "log").read_text()
            with httpx.Client(timeout=120) as http:
                yield Server(f"{found[0]}/", process, folder / "files", folder / "log", http)
        finally:
            process.terminate()
            process.wait(180)
