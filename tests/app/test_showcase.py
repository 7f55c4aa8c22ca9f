"""What a page opens with, stored with the bundle."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from visiting import Visit, canvas, patient, save

from rissole.app.server import serve
from rissole.app.showcase import FILE, add_showcase, read_showcase
from rissole.pipeline import RissolePipeline
from rissole.storage.manifest import verify, write_manifest
from rissole.storage.resolve import resolve


@pytest.fixture(scope="module")
def painted(tiny_bundle, tmp_path_factory):
    """The tiny bundle with a showcase."""
    folder = tmp_path_factory.mktemp("painted") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    add_showcase(folder, item=5, seed=3)
    return folder


# what moves by itself, a film that runs among it
MOVING = """() => [
  ...document.getAnimations().map((one) => one.animationName ?? one.transitionProperty ?? "flight"),
  ...[...document.querySelectorAll(".rs-playing")].map((node) => node.className)]"""
# texts and controls that lie upon each other, or have too little room
CROWDED = """() => {
  const kinds = "h1, h2, h3, p, button, summary, select, label, .rs-pixels, input[type=text]";
  const apart = ".rs-cells, .rs-wipe, .rs-lens, .rs-skip, dialog";
  const all = [...document.querySelectorAll(`:is(#rs-header, .rs-card) :is(${kinds})`)]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(apart));
  const boxes = all.map((one) => {
    const range = document.createRange(); // where its text is, which may be less than its line
    range.selectNodeContents(one);
    return (/^[HP]/.test(one.tagName) ? range : one).getBoundingClientRect();
  });
  const name = (one) => `${one.id || one.className || one.tagName} ${one.innerText}`.slice(0, 60);
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
  const upon = all.flatMap((one, n) => all.slice(n + 1)
    .filter((two, m) => meet(boxes[n], boxes[n + 1 + m]) && !one.contains(two))
    .map((two) => `${name(one)} | ${name(two)}`));
  const rows = document.querySelectorAll(".rs-views, .rs-heading h2, #rs-actions, .rs-tools");
  return [...upon, ...[...rows].filter((one) => one.scrollWidth > one.clientWidth + 1).map(name)];
}"""
FIXED = """() => [...document.querySelectorAll("body *")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true })
    && one.offsetHeight && getComputedStyle(one).position === "fixed")
  .map((one) => one.className)"""
# what shows a page whose scripts do not come
SHOWN_AT_LAST = """() => {
  const { dataset } = document.documentElement;
  delete dataset.whole;
  const { animationName } = getComputedStyle(document.getElementById("rs-page"));
  dataset.whole = "";
  return animationName;
}"""


def check_enlarged(visit: Visit) -> None:
    """At 400 % of a screen of 1400 x 900 nothing overlaps, and nothing stands in the way."""
    page = visit.page
    page.set_viewport_size({"width": 350, "height": 225})
    page.hover("[data-at='6']")
    page.click("[data-at='6']")
    visit.paint(1)
    assert page.evaluate(CROWDED) == []
    assert page.evaluate(FIXED) == []
    assert page.evaluate(MOVING) == []
    visit.check_access()


def last_picture(showcase) -> np.ndarray:
    data = base64.b64decode(showcase.messages[-1]["frame"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def test_it_is_stored_in_the_bundle(painted, pipe):
    verify(painted)
    there = RissolePipeline.from_pretrained(painted, torch_dtype=torch.float32)
    showcase = read_showcase(there)
    assert (showcase.item, showcase.recipe.seed) == (5, 3)
    assert list(showcase.recipe.neighbors) == there.retrieve(item=5, k=4).ids  # as shipped
    assert len(showcase.messages) == there.defaults["num_inference_steps"]
    assert (last_picture(showcase) == np.asarray(there(showcase.recipe).images[0])).all()
    assert there.fingerprint == pipe.fingerprint  # nothing else has changed
    assert read_showcase(pipe) is None


@pytest.mark.parametrize("name", ["cats-128", "cifar10-32"])
def test_what_is_shipped_shows_what_its_recipe_paints(name):
    there = RissolePipeline.from_pretrained(resolve(name), device="cpu", torch_dtype=torch.float32)
    showcase = read_showcase(there)
    assert showcase is not None
    assert len(showcase.content) < 300_000
    # in the last bit, processors differ
    assert np.abs(last_picture(showcase) - np.asarray(there(showcase.recipe).images[0])).max() <= 2


@pytest.mark.parametrize(
    "change",
    [
        {"item": 99},
        {"item": "5"},
        {"recipe": {}},
        {"messages": []},
        {"messages": [{"frame": "https://elsewhere.example/x.webp", "state": "done"}]},
        {"recipe": {"neighbors": [1], "database": "0" * 12}},
    ],
)
def test_one_that_does_not_fit_is_left_out(change, painted, tmp_path):
    shutil.copytree(painted, tmp_path / "tiny")
    file = tmp_path / "tiny" / FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    write_manifest(tmp_path / "tiny", "tiny")
    assert read_showcase(RissolePipeline.from_pretrained(tmp_path / "tiny")) is None


def test_what_is_changed_before_the_server_has_answered_stays(browser, painted):
    there, held, opened = RissolePipeline.from_pretrained(painted), [], []
    app, address, _ = serve(there, "127.0.0.1", prevent_thread_lock=True)
    try:
        context = patient(browser.new_context())
        later = lambda route: route.continue_() if opened else held.append(route)  # noqa: E731
        context.route("**/queue/join*", later)
        visit = Visit(browser, address, context)
        page, hits = visit.page, visit.hits()
        page.click(".rs-switch >> nth=1")
        opened.append(True)
        for route in held:
            route.continue_()
        page.wait_for_selector("[data-item='0']")  # the gallery comes with the same line
        visit.paint(1)
        assert sorted(save(page)["neighbors"]) == sorted([hits[0], *hits[2:]])
        assert page.get_attribute(".rs-switch >> nth=1", "aria-checked") == "false"
        page.click("[data-item='7']")
        page.wait_for_selector(".rs-query-name:has-text('Picture 7 ')")
        assert page.locator(".rs-switch[aria-checked=false]").count() == 0
        assert visit.troubles == []
    finally:
        app.get_blocks().close()


def test_the_page_opens_painted(browser, painted):
    there = RissolePipeline.from_pretrained(painted)
    app, address, _ = serve(there, "127.0.0.1", prevent_thread_lock=True)
    try:
        visit = Visit(browser, address, reduced_motion="reduce")
        page = visit.page
        page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")
        assert (canvas(page) == last_picture(read_showcase(there))).all()
        assert page.inner_text(".rs-query-name") == "Picture 5 of the gallery"
        assert page.input_value("#rs-seed input") == "3"
        assert page.locator(".rs-repaint").is_hidden()
        assert page.url.rstrip("/") == address.rstrip("/")
        assert page.evaluate(MOVING) == []
        assert page.evaluate(SHOWN_AT_LAST) == "rs-whole"
        page.keyboard.press("Tab")
        visit.check_access()
        page.keyboard.press("Enter")  # the first stop leads to the picture
        assert page.url.endswith("#rs-canvas")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#rs-canvas') !== null")
        check_enlarged(visit)
        assert visit.troubles == []
    finally:
        app.get_blocks().close()
