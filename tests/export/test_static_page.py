"""The exported page in a real browser: it paints what Python paints, from files alone.

`python -m pytest tests/export/test_static_page.py -m slow` (some minutes: it exports a bundle). The
runtime comes from the npm registry once; without network the tests are skipped.
"""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from alike import check_alike, decibels
from conftest import picture
from pages import exported
from PIL import Image

from rissole.app.links import decode, encode
from rissole.data.images import read_recipe
from rissole.export.static_page import HEADERS
from rissole.pipeline import RissolePipeline

pytestmark = pytest.mark.slow
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
KEPT = """() => new Promise((done) => {
  if (navigator.serviceWorker.controller) done();
  else navigator.serviceWorker.addEventListener("controllerchange", () => done());
})"""  # the service worker holds all files and answers for the page
RECIPES = (
    {"neighbors": [3, 17, 5]},
    {"neighbors": [9], "order": "sequential", "grid": 2, "num_inference_steps": 2},
    {"neighbors": [1, 2], "block_neighbors": {(0, 0): [8, 1]}, "order": "independent"},
    {"neighbors": range(16), "grid": 1, "guidance_scale": 0.0, "seed": 2**64 - 1},
    {
        "neighbors": [4, 6], "blocks": [(1, 2), (3, 3)], "seed": 8,
        "init": {"neighbors": [7, 0], "seed": 1},
    },
)  # fmt: skip


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


@pytest.fixture(scope="module")
def site(tiny_bundle) -> Path:
    return exported(tiny_bundle)


@pytest.fixture(scope="module")
def exact(tiny_bundle) -> RissolePipeline:
    return RissolePipeline.from_pretrained(tiny_bundle, device="cpu", torch_dtype=torch.float32)


@pytest.fixture(params=[False, True], ids=["one thread", "threads"])
def address(request, site) -> Iterator[str]:
    with serving(site, request.param) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    """A page on the site; nothing may fail in it, and nothing may be asked of anybody else."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, troubles = context.new_page(), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
    context.on(
        "request",
        lambda one: one.url.startswith((address, "blob:", "data:")) or troubles.append(one.url),
    )
    page.goto(address)
    page.wait_for_selector(".rs-hit", timeout=120_000)
    yield page
    context.close()
    assert troubles == []


def finished(page) -> None:
    page.wait_for_selector("html[data-rissole=done]", state="attached", timeout=120_000)


def painted(page) -> None:
    page.click("#rs-generate")
    page.wait_for_selector("html:not([data-rissole=done])", state="attached")
    finished(page)


def carry(page, source, target) -> None:
    """Drags with the mouse, as a hand does: down, over the way, up."""
    for place, act in ((source, page.mouse.down), (target, page.mouse.up)):
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        act()


def saved(page) -> bytes:
    with page.expect_download() as download:
        page.click("#rs-download")
    return Path(download.value.path()).read_bytes()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_a_golden_recipe_is_the_same_picture(tab, address, exact):
    for settings in RECIPES:
        check_alike(tab, address, exact, settings)


def test_a_visit_picks_paints_carries_repaints_and_uploads(tab, exact, tmp_path):
    tab.locator(".rs-thumb").nth(2).click()
    tab.locator(".rs-query-name", has_text="Picture 2 ").wait_for()
    painted(tab)
    first = saved(tab)
    recipe = read_recipe(io.BytesIO(first))
    again = exact(**recipe)
    assert decibels(pixels(first), np.asarray(again.images[0])) >= 50

    carry(tab, tab.locator(".rs-hit-pick").first, tab.locator("[data-at='5']"))
    tab.wait_for_selector(".rs-clear:not([hidden])", state="attached")
    tab.locator("[data-at='5']").click()
    tab.keyboard.press("r")
    tab.wait_for_selector("html:not([data-rissole=done])", state="attached")
    finished(tab)
    second = read_recipe(io.BytesIO(saved(tab)))
    assert second["blocks"] == [[1, 1]] and second["init"]["seed"] == recipe["seed"]
    assert exact(**second).checked

    tab.keyboard.press("z")
    tab.wait_for_selector(".rs-undo[hidden]", state="attached")
    assert read_recipe(io.BytesIO(saved(tab))) == recipe

    picture(5).save(tmp_path / "upload.png")
    tab.locator("#rs-upload + input").set_input_files(tmp_path / "upload.png")
    tab.wait_for_selector(".rs-query-picture[src^='data:']")
    assert tab.locator(".rs-hit").first.get_attribute("data-id") == "5"


def test_links_open_on_both_sides(tab, address, exact):
    out = exact(neighbors=[3, 5], seed=2**60 + 1, block_neighbors={(0, 1): [9]})
    link = encode(out.checked[0], 7)
    tab.goto(f"{address}?{link}")
    finished(tab)
    file = saved(tab)
    assert read_recipe(io.BytesIO(file)) == out.recipe
    assert decibels(pixels(file), np.asarray(out.images[0])) >= 50
    kept = tab.evaluate("Object.values(sessionStorage).find((text) => text.includes('link'))")
    assert decode(json.loads(kept)[0]["link"]) == out.checked[0]


def test_the_second_visit_needs_no_network(browser, site):
    context = browser.new_context()
    page = context.new_page()
    with serving(site, headers=True) as address:
        page.goto(address)
        page.wait_for_selector(".rs-hit", timeout=120_000)
        page.evaluate(KEPT)
    page.reload()  # nobody serves any more
    page.wait_for_selector(".rs-hit", timeout=120_000)
    painted(page)
    assert page.evaluate(
        "[...document.querySelectorAll('.rs-hit img')].every((one) => one.naturalWidth)"
    )
    context.close()
