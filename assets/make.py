"""Makes the pictures of the page that README.md shows: `python -m assets.make`, some minutes.

Starts the app, visits it with the Chromium of this machine, and writes `app`, `phone`, `who-won`,
`mix`, `first-visit` and `drag` as WebP beside itself. Names as arguments make those alone;
`published` cuts the trained baseline's pictures, which the page shows, out of `comparison`;
`cats`, `flowers` and `clothes` are a hundred pictures of a bundle each, `sleeves` a garment with
another's; `two-phones` shows one link with a server and without.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from rissole import RissolePipeline
from rissole.app.assets import FOLDER
from rissole.app.links import encode
from rissole.app.server import serve
from rissole.export.static_page import export_page

HERE = Path(__file__).parent
DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
QUALITY = 78
POINTER = """() => {
  const dot = document.createElement("div");
  dot.style.cssText = `position: fixed; z-index: 99; left: -50px; width: 18px; height: 18px;
    margin: -9px; border-radius: 50%; background: rgb(200 100 58 / .75);
    box-shadow: 0 0 0 2px #fff; pointer-events: none`;
  document.body.append(dot);
  addEventListener("pointermove", ({ clientX, clientY }) => {
    dot.style.left = `${clientX}px`;
    dot.style.top = `${clientY}px`;
  }, true);
}"""
FINISHED = "html[data-rissole=done][data-kind=''] .rs-pixels[data-shown=done]"
SKETCHED = "html[data-rissole=done][data-kind=sketch] .rs-picture:not(.rs-following)"
CHANGED = """([shown, end]) => document.querySelector(end)
  || document.querySelector(".rs-pixels").dataset.frames !== shown"""
SEED = "6"
RING = 6  # pixels around the canvas that a ring may take


class Film:
    """Frames of one part of the page, and how long each is shown."""

    def __init__(self, page: Page, clip: dict[str, float]):
        self.page, self.clip = page, clip
        self.frames: list[Image.Image] = []
        self.durations: list[int] = []

    def take(self, milliseconds: int = 90) -> None:
        """Keeps what is on show."""
        self.frames.append(shot(self.page, clip=self.clip))
        self.durations.append(milliseconds)

    def save(self, name: str) -> None:
        """Writes an animated picture that runs for ever."""
        first, *others = self.frames
        first.save(
            HERE / f"{name}.webp",
            save_all=True,
            append_images=others,
            duration=self.durations,
            loop=0,
            quality=60,
            method=4,
        )


def shot(page: Page, **options: Any) -> Image.Image:
    """What a page shows."""
    with Image.open(io.BytesIO(page.screenshot(**options))) as image:
        return image.convert("RGB")


def save(image: Image.Image, name: str) -> None:
    """Writes a picture beside this file."""
    image.save(HERE / f"{name}.webp", quality=QUALITY, method=6)


def paint(page: Page) -> None:
    """Generates a picture with a known seed."""
    page.fill("#rs-seed input", SEED)  # a sketch follows
    page.wait_for_selector(SKETCHED, state="attached")
    page.click("#rs-generate")
    page.wait_for_selector(FINISHED, state="attached")
    page.wait_for_timeout(900)  # for the lines between the blocks to fade


def follow(page: Page, film: Film) -> None:
    """Keeps every step of a painting until it is finished."""
    while page.query_selector(FINISHED) is None:
        shown = page.get_attribute(".rs-pixels", "data-frames")
        film.take(110)
        page.wait_for_function(CHANGED, arg=[shown, FINISHED])
    film.take(900)


def middle(page: Page, selector: str) -> tuple[float, float]:
    """The middle of an element in view."""
    box = page.locator(selector).first.bounding_box()
    assert box is not None, selector
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def carry(page: Page, start: str, end: str, each: Callable[[], None]) -> None:
    """Drags one element onto another, slowly."""
    (x, y), (to_x, to_y) = middle(page, start), middle(page, end)
    page.mouse.move(x, y)
    page.mouse.down()
    for n in range(1, 13):
        part = n / 12
        page.mouse.move(x + (to_x - x) * part, y + (to_y - y) * part)
        each()
    page.mouse.up()


def app(page: Page) -> None:
    """A finished picture with a block in focus."""
    paint(page)
    page.click("[data-at='5']")
    page.mouse.move(2, 2)
    save(shot(page), "app")


def phone(page: Page) -> None:
    """The first screen of a phone."""
    paint(page)
    page.evaluate("scrollTo(0, 0)")
    save(shot(page), "phone")


def stage(page: Page) -> dict[str, float]:
    """Where the canvas is."""
    box = page.locator(".rs-canvas").bounding_box()
    assert box is not None
    left, top, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    both = {"width": width + 2 * RING, "height": height + 2 * RING}
    return {"x": left - RING, "y": top - RING, **both}


def who_won(page: Page) -> None:
    """The map of the neighbors that won."""
    paint(page)
    page.click("[data-view=won]")
    page.wait_for_timeout(500)
    save(shot(page, clip=stage(page), full_page=True), "who-won")


def mix(page: Page) -> None:
    """A neighbor given to the blocks of the right side, which follow it closely."""
    paint(page)
    for at in (6, 7, 10, 11):
        carry(page, ".rs-hit >> nth=6 >> .rs-hit-pick", f"[data-at='{at}']", lambda: None)
        page.wait_for_selector(SKETCHED, state="attached")
    page.fill("#rs-strength input[type=range]", "2")
    page.wait_for_selector(SKETCHED, state="attached")
    paint(page)
    page.click("[data-at='6']")
    page.mouse.move(2, 2)
    page.wait_for_timeout(900)
    save(shot(page, clip=stage(page), full_page=True), "mix")


def drag(page: Page) -> None:
    """A neighbor dragged onto blocks, and the picture that follows."""
    paint(page)
    page.evaluate(POINTER)
    film = Film(page, {"x": 0, "y": 76, "width": 1400, "height": 660})
    film.take(900)
    for at, hit in ((5, 7), (6, 7)):
        carry(page, f".rs-hit >> nth={hit} >> .rs-hit-pick", f"[data-at='{at}']", film.take)
        for _ in range(6):
            film.take()
        page.wait_for_selector(SKETCHED, state="attached")
        film.take(900)
    film.frames = [frame.resize((840, 396), Image.Resampling.LANCZOS) for frame in film.frames]
    film.save("drag")


def first_visit(page: Page) -> None:
    """The page opens, another picture is chosen, one block is repainted."""
    page.evaluate(POINTER)
    film = Film(page, {"x": 0, "y": 0, "width": 1400, "height": 900})
    for _ in range(8):
        film.take(140)
    page.mouse.move(*middle(page, "#rs-surprise"))
    film.take(500)
    page.click("#rs-surprise")
    follow(page, film)
    page.click("[data-at='5']")
    film.take(700)
    page.click(".rs-repaint")
    follow(page, film)
    film.frames = [frame.resize((840, 540), Image.Resampling.LANCZOS) for frame in film.frames]
    film.save("first-visit")


PICTURES = {
    "app": (app, DESKTOP),
    "phone": (phone, PHONE),
    "who-won": (who_won, DESKTOP),
    "mix": (mix, DESKTOP),
    "drag": (drag, DESKTOP),
    "first-visit": (first_visit, DESKTOP),
}


def published() -> None:
    """Four pictures of the trained baseline, out of the sheet that `rissole compare` made."""
    size, border, names, row = 128, 2, 150, 5  # pixels, and which row of the sheet it is
    strip = Image.new("RGB", (4 * size, size))
    with Image.open(HERE / "comparison.webp") as sheet:
        for n in range(4):
            left, top = names + n * (size + border), row * (size + border)
            strip.paste(sheet.crop((left, top, left + size, top + size)), (n * size, 0))
    strip.save(FOLDER / "published" / "cats-128.webp", quality=QUALITY, method=6)


def hundred(name: str) -> None:
    """Pictures of the first hundred seeds, as shipped."""
    pipe, side = RissolePipeline.from_pretrained(f"{name}-128"), 96
    sheet = Image.new("RGB", (10 * (side + 2), 10 * (side + 2)), "white")
    for seed in range(100):
        painted = pipe(pipe.retrieve(k=8, seed=seed), seed=seed).images[0]
        place = (seed % 10 * (side + 2) + 1, seed // 10 * (side + 2) + 1)
        sheet.paste(painted.resize((side, side), Image.Resampling.LANCZOS), place)
    save(sheet, name)


def sleeves() -> None:
    """Garments whose outer blocks have a neighbor of their own: both photos, without, and with."""
    pipe, side = RissolePipeline.from_pretrained("clothes-128"), 160
    pairs = ((60, 110, 0), (145, 110, 0))  # a garment, whose sleeves it gets, and the seed
    sheet = Image.new("RGB", (4 * (side + 2), len(pairs) * (side + 2)), "white")
    for row, (garment, other, seed) in enumerate(pairs):
        hits, outer = pipe.retrieve(item=garment, k=8), [(y, x) for y in range(4) for x in (0, 3)]
        plain = pipe(hits, seed=seed)
        own = dict.fromkeys(outer, [other])
        mixed = pipe(hits, seed=seed, block_neighbors=own, strength=2.0)
        photos = [pipe.database.image(item) for item in (garment, other)]
        for column, picture in enumerate([*photos, plain.images[0], mixed.images[0]]):
            place = (column * (side + 2) + 1, row * (side + 2) + 1)
            sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), place)
    save(sheet, "sleeves")


@contextmanager
def exported() -> Iterator[str]:
    """The address of the page without a server."""
    with TemporaryDirectory() as folder:
        export_page("cats-128", Path(folder) / "page")
        files = partial(SimpleHTTPRequestHandler, directory=f"{folder}/page")
        with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


def two_phones() -> None:
    """One link on a phone: left from a server, right without one."""
    pipe = RissolePipeline.from_pretrained("cats-128")
    link = encode(pipe(pipe.retrieve(item=17, k=8), seed=4).checked[0], 17)
    served, address, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    both = Image.new("RGB", (2 * PHONE["width"] + 20, PHONE["height"]), "white")
    with exported() as alone:
        for left, where in ((0, address), (PHONE["width"] + 20, alone)):
            with visited(f"{where}?{link}", PHONE) as page:
                page.wait_for_selector(FINISHED, state="attached")
                page.wait_for_timeout(900)  # for the lines between the blocks to fade
                both.paste(shot(page), (left, 0))
    served.get_blocks().close()
    save(both, "two-phones")


ALONE = {"published": published, "sleeves": sleeves, "two-phones": two_phones}


@contextmanager
def visited(address: str, viewport: dict[str, int]) -> Iterator[Page]:
    """A page on the app in a browser of its own."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        small = viewport is PHONE
        page = browser.new_page(viewport=viewport, is_mobile=small, has_touch=small)
        page.set_default_timeout(180_000)  # two cores may have other work
        page.goto(address)
        page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")
        yield page
        browser.close()


def main(names: list[str]) -> None:
    """Makes the named pictures, or all of the page."""
    pages = [name for name in names or PICTURES if name in PICTURES]
    for name in (name for name in names if name not in PICTURES):
        ALONE.get(name, partial(hundred, name))()
    if not pages:
        return
    pipe = RissolePipeline.from_pretrained("cats-128")
    served, address, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    for name in pages:
        make, viewport = PICTURES[name]
        with visited(address, viewport) as page:
            make(page)
        print(name, f"{(HERE / f'{name}.webp').stat().st_size:,} bytes", flush=True)
    served.get_blocks().close()


if __name__ == "__main__":
    main(sys.argv[1:])
