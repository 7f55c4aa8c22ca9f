"""How the browser tests visit the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rissole.data.images import read_recipe

DRAWN = """() => {
  const canvas = document.querySelector(".rs-pixels");
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let hash = 7;
  for (let i = 0; i < bytes.length; i += 1) hash = (hash * 31 + bytes[i]) | 0;
  return hash;
}"""
WATCH = f"""() => {{
  const look = {DRAWN};
  window.seen = new Set([look()]);
  const again = () => {{ window.seen.add(look()); requestAnimationFrame(again); }};
  again();
}}"""


SETTLED = """() => Promise.allSettled(document.getAnimations()
  .filter((one) => one.effect.getComputedTiming().endTime < Infinity)
  .map((one) => one.finished))"""  # until nothing fades in or out

CLOSED = "close_stream"  # the last word on a stream of answers
PATIENCE = 180_000  # ms: a machine that is slow, or does much else, is no failure
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


def patient(opened):
    """A context, or a page, that waits for long."""
    opened.set_default_timeout(PATIENCE)
    return opened


class Visit:
    """A tab on the page that notes what should not happen; options are a browser context's."""

    def __init__(
        self,
        browser,
        address: str,
        context=None,
        width: int = 1440,
        height: int = 900,
        live: bool = False,
        **options,
    ):
        self.address, self.troubles = address, []
        viewport = {"width": width, "height": height}
        self.context = context or patient(browser.new_context(viewport=viewport, **options))
        self.page = self.context.new_page()
        # most visits say themselves when something is painted; an empty page keeps nothing
        switch = f"localStorage['rissole-live'] = '{'on' if live else 'off'}'"
        self.page.add_init_script(f"if (origin !== 'null') {switch}")
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"page error: {error}"))
        self.page.on("request", self._request)
        self.page.goto(address)
        self.page.wait_for_selector(".rs-hit")

    def _console(self, message) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text} {message.location['url']}")

    def _request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.troubles.append(f"request to {request.url}")

    def go(self, address: str) -> None:
        """Opens another address in this tab, once the page in it has ended."""
        self.page.goto("about:blank")
        self.page.goto(address)

    def set_steps(self, steps: int) -> None:
        box = self.page.locator("#rs-steps input[type=number]")
        box.fill(str(steps))
        box.press("Tab")

    def wait_for(self, state: str) -> None:
        """Waits for a state of the page; one that ends in an error is told at once."""
        states = f"html[data-rissole={state}], html[data-rissole=error]"
        self.page.wait_for_selector(states, state="attached")
        seen = self.page.evaluate("document.documentElement.dataset.rissole")
        assert state == "error" or seen != "error", self.words()
        if state == "error":  # a link's may be known before the canvas is there to say it
            self.page.wait_for_selector(".rs-words:not(:empty)")

    def paint(self, steps: int = 2) -> None:
        """Generates, and waits until the finished picture is on the canvas."""
        self.set_steps(steps)
        self.paint_as_it_is()

    def paint_as_it_is(self) -> None:
        """The same with the steps that are set."""
        self.page.click("#rs-generate")
        self.finish()

    def finish(self) -> None:
        """Waits until the finished picture is on the canvas: frames are decoded off screen."""
        self.wait_for("done")
        self.page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")

    def settle(self) -> None:
        """Waits until all that the server had sent is on the page: it answers in turn."""
        other = 2 if self.page.inner_text(".rs-query-name").startswith("Picture 1 ") else 1
        self.page.click(f"[data-item='{other}']")
        self.page.wait_for_selector(f".rs-query-name:has-text('Picture {other} ')")
        self.page.wait_for_selector(".rs-pixels:not([data-shown=''])", state="attached")

    def leave(self) -> None:
        """Closes the tab; what it kept in the browser is for it alone."""
        if not self.page.is_closed():
            self.page.evaluate("localStorage.clear()")
            self.page.close()

    def words(self) -> str:
        return self.page.inner_text(".rs-words")

    def hits(self) -> list[int]:
        return [int(hit.get_attribute("data-id")) for hit in self.page.locator(".rs-hit").all()]

    def overflow(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def check_access(self) -> None:
        """The checks of axe-core find nothing serious; no sideways scrolling."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
        self.page.evaluate(SETTLED)
        found = axe.Axe().run(self.page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], [(one["id"], one["nodes"][0]["html"]) for one in serious]
        assert self.overflow() <= 0


def pixels(file) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def assert_canvas_shows(page, file) -> None:
    assert np.abs(canvas(page) - pixels(file)).max() == 0


def canvas(page) -> np.ndarray:
    address = page.evaluate("document.querySelector('.rs-pixels').toDataURL('image/png')")
    return pixels(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def save(page) -> dict:
    with page.expect_download() as download:
        page.click("#rs-download")
    file = download.value.path()
    assert_canvas_shows(page, file)
    return read_recipe(file)


def upload(page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#rs-upload")
    chooser.value.set_files(file)


def hold(page, pattern: str):
    """Holds the next request back; what is returned waits for it, and lets it go."""
    held: list = []
    page.route(pattern, lambda route: held.append(route), times=1)

    def let_go() -> None:
        while not held:
            page.evaluate("new Promise(requestAnimationFrame)")  # requests are told meanwhile
        held.pop().continue_()

    return let_go


# what a slow line does: what the server says on a stream is heard later, from a word on
LATE = """(() => {
  const send = window.fetch;
  const late = window.late = {};
  window.fetch = async (...request) => {
    const answer = await send(...request);
    const { url } = request[0] instanceof Request ? request[0] : { url: String(request[0]) };
    if (!url.includes("queue/data")) return answer;
    request[0].signal.addEventListener("abort", () => { late.cut = true; });
    const encoder = new TextEncoder();
    const slow = new TransformStream({ async transform(text, line) {
      const word = late.word ? text.indexOf(late.word) : -1;
      const at = word < 0 ? text.length : text.lastIndexOf("data:", word);
      line.enqueue(encoder.encode(text.slice(0, at)));
      if (word < 0) return;
      await new Promise((go) => { late.go = go; });
      line.enqueue(encoder.encode(text.slice(at)));
    } });
    return new Response(answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(slow), answer);
  };
})()"""


class Late:
    """Holds back, on a page that is loaded anew, what a stream of answers says.

    Args:
        page: which loads itself again.
    """

    def __init__(self, page):
        self.page = page
        page.add_init_script(LATE)
        page.reload()

    def hold(self, word: str, ask) -> None:
        """Holds back what the stream says from a word on, on which what is asked for comes."""
        self.page.evaluate("(word) => { window.late.word = word; }", word)
        ask()
        self.page.wait_for_function("Boolean(window.late.go)")

    def let_go(self, ask) -> None:
        """Asks for something else, and lets the rest be heard when that is accepted."""
        with self.page.expect_response("**/queue/join*") as accepted:
            ask()
        accepted.value.finished()
        self.page.evaluate("new Promise(requestAnimationFrame)")
        self.page.evaluate("window.late.word = null; window.late.go()")
