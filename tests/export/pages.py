"""Exported pages for tests: each is made once, served, and visited in a real browser."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from visiting import patient

from rissole.config import RissoleError
from rissole.export.static_page import HEADERS, export_page

WITH_HEADERS = f"""
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        for name, value in {HEADERS!r}.items():
            self.send_header(name, value)
        super().end_headers()
handler = functools.partial(Handler, directory=sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
KEPT = """() => new Promise((done, fail) => {
  const workers = navigator.serviceWorker;
  if (workers.controller) { done(); return; }
  workers.addEventListener("controllerchange", () => done());
  setTimeout(async () => {
    const { installing, waiting, active } = await workers.getRegistration() ?? {};
    fail(new Error(JSON.stringify([installing, waiting, active].map((one) => one?.state))));
  }, 120000);
})"""  # the service worker holds all files and answers for the page
FINISHED = """() => {
  const { dataset } = document.documentElement;
  if (!dataset.finished) {
    dataset.finished = 0;
    document.addEventListener("rissole:phase", ({ detail }) => {
      dataset.finished = Number(dataset.finished) + (detail === "done" && !dataset.kind);
    });
  }
  return Number(dataset.finished);
}"""  # counts pictures that are finished, but for sketches and what a page opens with: a small one
# may be finished before anybody looks


@cache
def exported(bundle: Path, out: Path | None = None) -> Path:
    """The page of a bundle, beside it unless said otherwise.

    The runtime comes from the npm registry once; without network the test is skipped.
    """
    out = out or bundle.with_name(f"{bundle.name}-page")
    try:
        export_page(bundle, out)
    except RissoleError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    return out


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def serving(folder: Path, headers: bool) -> Iterator[str]:
    """A web server of its own process; ends with the block."""
    port = free_port()
    plain = ["-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    arguments = ["-c", WITH_HEADERS, str(port), str(folder)] if headers else plain
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(200):
            with suppress(OSError), urllib.request.urlopen(address):
                break
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


class Counting(SimpleHTTPRequestHandler):
    """Serves files, by ranges where it is told to, and counts the bytes of each."""

    sent: Counter
    ranges = False

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_head(self):
        asked = self.headers.get("Range")
        if not (self.ranges and asked):
            return super().send_head()
        first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        whole = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
        self.end_headers()
        self.count(last + 1 - first)
        self.wfile.write(whole[first : last + 1])
        return None

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        self.count(len(content))  # before: whoever has it may look at once
        outputfile.write(content)

    def count(self, size: int) -> None:
        self.sent[self.path.split("?")[0].lstrip("/")] += size

    def log_message(self, *_) -> None:
        """Says nothing."""


@contextmanager
def counting(folder: Path, ranges: bool) -> Iterator[tuple[str, Counter]]:
    """A web server of this process: its address, and the bytes that it has sent of each file."""
    kind = type("Handler", (Counting,), {"sent": Counter(), "ranges": ranges})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", kind.sent
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def visiting(browser, address: str, **how):
    """A page on the site; nothing may fail in it, and nothing may be asked of anybody else."""
    context = patient(browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **how}))
    page, troubles = context.new_page(), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
    context.on(
        "request",
        lambda one: one.url.startswith((address, "blob:", "data:")) or troubles.append(one.url),
    )
    page.goto(address)
    page.wait_for_selector(".rs-hit", timeout=120_000)
    try:
        yield page
    finally:
        context.close()
    assert troubles == []


def loaded(page) -> None:
    page.wait_for_selector("#rs-loading[hidden]", state="attached", timeout=120_000)


def finished(page) -> None:
    page.wait_for_selector("html[data-rissole=done]", state="attached", timeout=120_000)


@contextmanager
def finishing(page, patience: float = 120_000) -> Iterator[None]:
    """Waits until the picture that is asked for in the block is finished: so many milliseconds."""
    number = page.evaluate(FINISHED) + 1
    yield
    page.wait_for_selector(f"html[data-finished='{number}']", state="attached", timeout=patience)


def painted(page) -> None:
    with finishing(page):
        page.click("#rs-generate")


def saved(page) -> bytes:
    with page.expect_download() as download:
        page.click("#rs-download")
    return Path(download.value.path()).read_bytes()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
