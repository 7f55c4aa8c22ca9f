"""What an exported page takes in Chromium: seconds, memory, bytes of the first visit.

    export PYTHONPATH=.:tests
    python tests/export/measure_page.py PAGE speed --bundle cats-128 --steps 1 2 4
    python tests/export/measure_page.py PAGE memory
    python tests/export/measure_page.py PAGE traffic

PAGE is a folder of `rissole export --web`. `speed` paints the same recipes in float32 Python in the
same run, and says how near the browser's picture is to Python's and how far apart their attention
is at most.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from alike import beside_python
from measure_memory import memory
from pages import KEPT, counting, finishing, serving
from playwright.sync_api import Browser, Page, sync_playwright
from visiting import patient

from rissole.pipeline import RissolePipeline

READY = ".rs-hit"
PATIENCE = 300_000  # milliseconds


@contextmanager
def browsing(*arguments: str) -> Iterator[Browser]:
    """A Chromium of its own."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *arguments]
        )
        yield browser
        browser.close()


def paint_once(page: Page) -> None:
    """Presses the button and waits for the picture."""
    with finishing(page, PATIENCE):
        page.click("#rs-generate")


# ---- speed ---------------------------------------------------------------------------------------


def line(page: Page, address: str, pipe: RissolePipeline, steps: int, threads: int) -> str:
    """Paints one recipe on both sides, twice, and compares the second time."""
    settings = {"num_inference_steps": steps, "seed": 5}
    hits = pipe.retrieve(item=17, k=8)
    first = beside_python(page, address, pipe(hits, **settings), threads)
    began = time.perf_counter()
    out = pipe(hits, **settings)
    python = time.perf_counter() - began
    found = beside_python(page, address, out, threads)
    return (
        f"{found['calls']} calls, {threads} threads: {found['seconds']:.2f} s in the browser "
        f"(the first {first['seconds']:.2f}; {found['decoding']:.2f} to decode), "
        f"{python:.2f} s in Python; {found['decibels']:.1f} dB, "
        f"attention within {found['attention']:.0e}"
    )


def speed(folder: Path, bundle: str, steps: list[int], threads: list[int]) -> None:
    """Seconds per picture, the second one of each kind."""
    pipe = RissolePipeline.from_pretrained(bundle, device="cpu", torch_dtype=torch.float32)
    with serving(folder, headers=True) as address, browsing() as browser:
        for number in threads:
            page = browser.new_page()
            page.goto(f"{address}facts.json")  # nothing but the engine runs
            for count in steps:
                print(line(page, address, pipe, count, number), flush=True)
            page.close()


# ---- traffic -------------------------------------------------------------------------------------


KINDS = {
    "runtime/": "runtime", "model/": "model", "database/latents": "latents",
    "database/index": "index", "thumbs/": "thumbnails", "database/thumb": "thumbnails",
}  # fmt: skip


def by_kind(sent: Counter) -> str:
    """Megabytes of each kind of file."""
    kinds: Counter = Counter()
    for name, size in sent.items():
        kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), "page")
        kinds[kind] += size
    parts = ", ".join(f"{kind} {size / 1e6:.2f}" for kind, size in kinds.most_common())
    return f"{kinds.total() / 1e6:.1f} MB ({parts})"


def visit(browser: Browser, address: str, **how: str) -> Page:
    """A page that has painted once, in a browser that has seen none."""
    page = patient(browser.new_context(**how).new_page())
    page.goto(address)
    page.wait_for_selector(READY, timeout=PATIENCE)
    paint_once(page)
    return page


def traffic(folder: Path) -> None:
    """Bytes that a server sends: bodies alone, before compression."""
    for ranges in (False, True):
        with counting(folder, ranges) as (address, sent), browsing() as browser:
            visit(browser, address, service_workers="block").context.close()
            print(f"ranges {ranges}: the first picture took {by_kind(sent)}", flush=True)
            sent.clear()
            page = visit(browser, address)
            page.evaluate(KEPT)
            print(f"ranges {ranges}: with all that is kept {by_kind(sent)}", flush=True)
            sent.clear()
            page.reload()
            page.wait_for_selector(READY, timeout=PATIENCE)
            paint_once(page)
            print(f"ranges {ranges}: the second visit {by_kind(sent)}", flush=True)


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("what", choices=["speed", "memory", "traffic"])
    parser.add_argument("--bundle", default="cats-128")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    options = parser.parse_args()
    if options.what == "speed":
        speed(options.page, options.bundle, options.steps, options.threads)
    elif options.what == "memory":
        memory(options.page, options.threads)
    else:
        traffic(options.page)


if __name__ == "__main__":
    main()
