"""What the tab of an exported page has in memory while nobody looks into it.

Developer tools, and whatever drives a browser through them, keep copies of all that a page loads.
So a page of the same server shows the exported one in a frame, presses its buttons, and says when
the tab's process is to be looked at (`measure_memory.js`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from rissole.export.static_page import HEADERS

SCRIPT = Path(__file__).with_suffix(".js")
FRAME = (
    "<!doctype html><meta charset=utf-8><iframe src='/' width=1400 height=850></iframe>"
    "<script type=module src='/measure.js'></script>"
)
PATIENCE = 600  # seconds
KINDS = {"Pss": "proportional share", "Anonymous": "its own"}


def memory_of(process: int) -> Counter:
    """Megabytes of a process, by kind."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    sizes = {words[0][:-1]: int(words[1]) / 1024 for words in map(str.split, lines[1:])}
    return Counter({name: sizes[name] for name in KINDS})


class Watched(threading.Thread):
    """The process of a browser's fullest tab, looked at ten times a second until it ends."""

    def __init__(self, browser: psutil.Process):
        super().__init__(daemon=True)
        self.browser, self.now, self.peak = browser, Counter(), Counter()
        self.start()

    def tabs(self) -> list[Counter]:
        """What each has in memory."""
        found = []
        for process in self.browser.children(recursive=True):
            try:
                if "--type=renderer" in process.cmdline():
                    found.append(memory_of(process.pid))
            except (psutil.Error, OSError):  # it has ended meanwhile
                continue
        return found

    def run(self) -> None:
        while self.browser.is_running() and self.browser.status() != psutil.STATUS_ZOMBIE:
            self.now = max(self.tabs(), key=lambda one: one["Anonymous"], default=Counter())
            self.peak |= self.now
            time.sleep(0.1)

    def __str__(self) -> str:
        return ", ".join(
            f"{said} {self.now[name]:.0f} MB (at most {self.peak[name]:.0f})"
            for name, said in KINDS.items()
        )


class Handler(SimpleHTTPRequestHandler):
    """Serves the exported page, and what drives it."""

    headers_sent: dict[str, str]
    heard: threading.Event
    watched: Watched

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        name, _, said = self.path.partition("?")
        if name == "/said":
            self.say(urllib.parse.unquote(said))
        elif name == "/measure.html":
            self.answer(FRAME.encode(), "text/html")
        elif name == "/measure.js":
            self.answer(SCRIPT.read_bytes(), "text/javascript")
        else:
            super().do_GET()

    def say(self, what: str) -> None:
        self.answer(b"", "text/plain")
        if not what:
            self.heard.set()
        else:
            print(f"{what}: {self.watched}", flush=True)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Says nothing."""


def visit(folder: Path, headers: dict[str, str]) -> None:
    """Opens a page in a Chromium of its own, and prints what its tab has in memory."""
    kind = type("Told", (Handler,), {"headers_sent": headers, "heard": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        switches = ["--headless=new", "--no-sandbox", "--no-first-run", "--window-size=1400,900"]
        address = f"http://127.0.0.1:{server.server_port}/measure.html"
        browser = psutil.Popen(
            [program, *switches, f"--user-data-dir={profile}", address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            kind.watched = Watched(browser)
            if not kind.heard.wait(PATIENCE):
                raise TimeoutError(f"nothing was said for {PATIENCE} s")
        finally:
            for process in [*browser.children(recursive=True), browser]:
                process.kill()
            browser.wait()
            server.shutdown()
            server.server_close()


def memory(folder: Path, threads: list[int]) -> None:
    """Memory of the tab while it loads and paints: with one thread, and as many as it is lent."""
    for number in threads:
        visit(folder, HEADERS if number > 1 else {})
