"""How fast the page is, in a real browser on this machine."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rissole.app.server import serve
from rissole.app.showcase import read_showcase
from rissole.app.sketches import sketch_steps
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
NEEDED = "benchmark --page needs playwright and a Chromium: pip install playwright"
WAIT = 120_000  # ms
SETTINGS = "localStorage['rissole-live'] = 'on'"
# marks when something is wished, and when its picture is on the screen
WATCH = """() => {
  window.seen = [];
  let wished = 0;
  document.addEventListener("rissole:wish", () => { wished = performance.now(); });
  document.addEventListener("rissole:drawn", ({ detail }) => {
    if (detail.kind === "sketch") {
      requestAnimationFrame(() => window.seen.push([performance.now() - wished, detail.calls]));
    }
  });
}"""
FIRST = """() => new Promise((done) => {
  const look = () => {
    const shown = document.querySelector(".rs-pixels")?.dataset.shown;
    const { loadEventEnd } = performance.getEntriesByType("navigation")[0];
    if (shown && loadEventEnd) done(performance.now() - loadEventEnd);
    else requestAnimationFrame(look);
  };
  look();
})"""


def measure_page(pipe: RissolePipeline, runs: int) -> dict[str, Any]:
    """Times from a wish to its picture, as a visitor sees them.

    Args:
        pipe: what is served.
        runs: how many wishes, after one to warm up.

    Returns:
        "first_picture_seconds" after the page's load event (None where nothing is stored to open
        with), "wish_to_picture_seconds" (median), "slowest_wish_seconds", "sketch_steps",
        "sketch_calls"

    Raises:
        RissoleError: where there is no browser to measure in.
    """
    with _browser() as browser, _served(pipe) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.add_init_script(SETTINGS)
        page.goto(address)
        first = page.evaluate(FIRST) if read_showcase(pipe) else None
        page.wait_for_selector(".rs-switch")
        page.evaluate(WATCH)
        for n in range(runs + 1):
            page.click(".rs-switch >> nth=0")
            page.wait_for_function(f"window.seen.length > {n}", timeout=WAIT)
        seen = page.evaluate("window.seen")[1:]
    times = [milliseconds / 1000 for milliseconds, _ in seen]
    return {
        "first_picture_seconds": None if first is None else round(first / 1000, 3),
        "wish_to_picture_seconds": round(statistics.median(times), 3),
        "slowest_wish_seconds": round(max(times), 3),
        "sketch_steps": sketch_steps(pipe, pipe.defaults["num_inference_steps"]),
        "sketch_calls": seen[-1][1],
    }


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise RissoleError(NEEDED) from error
    program = next(filter(None, map(shutil.which, BROWSERS)), None)  # else the one it brings
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
        except Error as error:
            raise RissoleError(NEEDED) from error
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _served(pipe: RissolePipeline) -> Iterator[str]:
    app, address, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    try:
        yield address
    finally:
        app.get_blocks().close()
