"""The exported page in a real browser: it paints what Python paints, from files alone.

`python -m pytest tests/export/test_static_page.py -m slow` (some minutes: it exports a bundle). The
runtime comes from the npm registry once; without network the tests are skipped.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from alike import check_alike, decibels
from conftest import picture
from pages import (
    KEPT,
    exported,
    finished,
    finishing,
    loaded,
    painted,
    pixels,
    saved,
    serving,
    visiting,
)
from PIL import Image, ImageSequence
from rich_bundle import CLASSES, make_rich
from visiting import patient

from rissole.app.links import decode, encode
from rissole.data.images import read_recipe
from rissole.pipeline import RissolePipeline
from rissole.runs import as_python, record

# of Playwright's waits only those that evaluate nothing again and again: the page forbids it
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow
AT_ONCE = """() => {
  for (const one of [0, 1, 0]) document.querySelectorAll(".rs-switch")[one].click();
  document.querySelector("#rs-generate").click();
}"""  # more sketches than are painted at once, and then the picture itself
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


@pytest.fixture(scope="module")
def bundle(tiny_bundle, tmp_path_factory) -> Path:
    return make_rich(tiny_bundle, tmp_path_factory.mktemp("rich") / "tiny")


@pytest.fixture(scope="module")
def site(bundle) -> Path:
    return exported(bundle)


@pytest.fixture(scope="module")
def exact(bundle) -> RissolePipeline:
    return RissolePipeline.from_pretrained(bundle, device="cpu", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def threaded(site) -> Iterator[str]:
    with serving(site, headers=True) as address:
        yield address


@pytest.fixture(params=[False, True], ids=["one thread", "threads"])
def address(request, site) -> Iterator[str]:
    with serving(site, request.param) as address:
        yield address


@pytest.fixture
def tab(browser, address):
    with visiting(browser, address) as page:
        yield page


@pytest.fixture
def threads(browser, threaded):
    """A page that is lent threads; what is the same without them is tried here alone."""
    with visiting(browser, threaded) as page:
        yield page


def carry(page, source, target) -> None:
    """Drags with the mouse, as a hand does: down, over the way, up."""
    for place, act in ((source, page.mouse.down), (target, page.mouse.up)):
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        act()


def test_a_golden_recipe_is_the_same_picture(tab, address, exact):
    for settings in RECIPES:
        check_alike(tab, address, exact, settings)


def test_a_visit_picks_paints_carries_repaints_and_uploads(tab, exact, tmp_path):
    tab.locator(".rs-thumb").nth(2).click()
    tab.locator(".rs-query-name", has_text="Picture 2 ").wait_for()
    tab.fill("#rs-k-input", "3")
    tab.press("#rs-k-input", "Enter")
    sync_api.expect(tab.locator(".rs-hit")).to_have_count(3)
    painted(tab)
    first = saved(tab)
    recipe = read_recipe(io.BytesIO(first))
    again = exact(**recipe)
    assert decibels(pixels(first), np.asarray(again.images[0])) >= 50

    carry(tab, tab.locator(".rs-hit-pick").first, tab.locator("[data-at='5']"))
    tab.wait_for_selector(".rs-clear:not([hidden])", state="attached")
    tab.fill("#rs-strength-input", "2")
    tab.locator("[data-at='5']").click()
    with finishing(tab):
        tab.keyboard.press("r")
    second = saved(tab)
    repaint = read_recipe(io.BytesIO(second))
    assert repaint["blocks"] == [[1, 1]] and repaint["init"]["seed"] == recipe["seed"]
    assert repaint["strength"] == 2 and "strength" not in recipe  # for blocks with their own alone
    assert decibels(pixels(second), np.asarray(exact(**repaint).images[0])) >= 50

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
    context = patient(browser.new_context())
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


def test_it_opens_painted_before_the_model_is_there(browser, threaded):
    context = patient(browser.new_context())
    page = context.new_page()
    page.route("**/model/*", lambda route: None)  # they never come
    page.goto(threaded)
    page.wait_for_selector("html[data-rissole=done][data-kind=stored]", state="attached")
    page.locator(".rs-query-name", has_text="Picture 3 ").wait_for()
    page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")
    assert page.locator("#rs-loading").is_visible()
    context.close()


def test_seconds_of_a_picture_do_not_count_how_long_the_model_took_to_come(
    browser, threaded, exact
):
    link = encode(exact(neighbors=[3, 5]).checked[0], 7)
    context = patient(browser.new_context())
    page = context.new_page()
    held: list = []
    page.route("**/model/denoiser.safetensors", lambda route: held.append(route))
    page.goto(f"{threaded}?{link}")
    page.wait_for_selector("html[data-rissole=starting]", state="attached")
    while not held or page.evaluate("performance.now()") < 5000:  # since the page was opened
        page.evaluate("new Promise(requestAnimationFrame)")
    released = page.evaluate("performance.now()")
    held.pop().continue_()
    finished(page)
    least = (page.evaluate("performance.now()") - released) / 1e3
    said = re.search(r"Done in ([\d.]+) s", page.inner_text(".rs-words"))
    assert said and float(said[1]) <= least
    context.close()


def photos(folder: Path, count: int) -> list[Path]:
    """So many pictures, and a file that is none."""
    files = [folder / f"photo-{n}.png" for n in range(count)]
    for n, file in enumerate(files):
        picture(100 + n).resize((190, 128)).save(file)
    broken = folder / "broken.png"
    broken.write_bytes(b"no picture")
    return [*files, broken]


def ids(page) -> list[int]:
    return [int(hit.get_attribute("data-id")) for hit in page.locator(".rs-hit").all()]


def test_photos_of_ones_own_stay_until_they_are_removed(browser, threaded, tmp_path):
    with visiting(browser, threaded) as page:
        loaded(page)
        page.set_input_files(".rs-files", photos(tmp_path, 5))
        page.locator(".rs-query-name", has_text="of yours").wait_for(timeout=60_000)
        assert page.locator(".rs-skipped summary").inner_text() == "1 file was left out"
        assert "broken.png" in page.locator(".rs-skipped li").text_content()
        assert len(ids(page)) == 4 and set(ids(page)) < set(range(5))
        painted(page)
        file, address = saved(page), page.url
        assert address == threaded  # nobody else could open a link to it
        assert page.locator("[data-do=link]").is_disabled()
        assert "own photos" in page.locator(".rs-picked").inner_text()
        recipe = read_recipe(io.BytesIO(file))

        page.reload()
        loaded(page)
        page.locator("[data-of=database] option", has_text="Your photos (5)").wait_for(
            state="attached"
        )
        (tmp_path / "again.png").write_bytes(file)
        with finishing(page):
            page.set_input_files("#rs-opened + input", tmp_path / "again.png")
        assert read_recipe(io.BytesIO(saved(page))) == recipe
        np.testing.assert_array_equal(pixels(saved(page)), pixels(file))

        page.click(".rs-forget")
        page.wait_for_selector(".rs-forget[hidden]", state="attached")
        page.locator(".rs-query-name", has_text="of the gallery").wait_for()
        page.set_input_files("#rs-opened + input", tmp_path / "again.png")
        page.locator(".rs-problem", has_text="somebody's own photos").wait_for()
        page.reload()
        loaded(page)
        page.locator(".rs-hit").first.wait_for()
        assert page.locator("[data-of=database] option").count() <= 1


def test_neighbors_come_from_elsewhere_and_from_the_gallery(threads, tmp_path):
    before = ids(threads)
    picture(9).save(tmp_path / "more.png")
    threads.set_input_files("#rs-add + input", tmp_path / "more.png")
    threads.locator(".rs-hit[data-id='24']").wait_for(timeout=60_000)  # behind 24
    assert ids(threads) == [*before, 24]
    threads.click("[data-tap=add]")
    free = next(item for item in range(24) if item not in before)
    threads.click(f".rs-thumb[data-item='{free}']")
    assert ids(threads)[-1] == free
    painted(threads)
    assert read_recipe(io.BytesIO(saved(threads)))["neighbors"] == [*before, 24, free]
    assert threads.locator("[data-do=link]").is_disabled()


def test_names_of_classes_are_queries(threads, exact):
    threads.fill("#rs-text-input", "lilies")
    threads.press("#rs-text-input", "Enter")
    threads.locator(".rs-query-name", has_text="lilies").wait_for(timeout=60_000)
    assert ids(threads) == exact.retrieve(text="lilies", k=4).ids
    threads.fill("#rs-text-input", "a red bus")
    threads.press("#rs-text-input", "Enter")
    threads.locator(".rs-problem", has_text=f"known: {', '.join(CLASSES)}").wait_for()


def filed(page, name: str) -> bytes:
    with page.expect_download(timeout=120_000) as download:
        page.click(f"[data-do={name}]")
    page.locator(".rs-share .rs-said", has_text="Saved.").wait_for()
    return Path(download.value.path()).read_bytes()


def arrays_of(file: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(file)) as found:  # noqa: TID251 - ours, and no pickle
        return dict(found)


def test_files_of_a_picture_are_those_of_python(threads, exact):
    painted(threads)
    recipe = read_recipe(io.BytesIO(saved(threads)))
    scores = exact.retriever.similarity(3, recipe["neighbors"])
    run = record(exact.stream(**recipe), dict(zip(recipe["neighbors"], scores, strict=True)))
    found, known = arrays_of(filed(threads, "npz")), arrays_of(run.encoded(".npz"))
    assert found.keys() == known.keys()
    assert json.loads(str(found.pop("recipe"))) == json.loads(str(known.pop("recipe")))
    for name, values in known.items():
        assert found[name].dtype.kind == values.dtype.kind
        np.testing.assert_allclose(found[name], values, atol=2e-3, err_msg=name)
    table = list(csv.DictReader(io.StringIO(filed(threads, "csv").decode())))
    for line, other in zip(
        table, csv.DictReader(io.StringIO(run.encoded(".csv").decode())), strict=True
    ):
        assert list(map(float, line.values())) == pytest.approx(
            list(map(float, other.values())), abs=1e-3
        )
    assert json.loads(filed(threads, "json"))["neighbors"] == recipe["neighbors"]
    film = Image.open(io.BytesIO(filed(threads, "film")))
    last = [frame.convert("RGB").copy() for frame in ImageSequence.Iterator(film)][-1]
    assert film.n_frames == 4 and film.size == (256, 256)
    assert decibels(np.asarray(last.resize((128, 128))), pixels(saved(threads))) > 25
    sheet = filed(threads, "sheet")
    assert read_recipe(io.BytesIO(sheet)) == recipe and Image.open(io.BytesIO(sheet)).width > 400
    threads.click("[data-do=python]")
    # a saved recipe has its keys sorted; a program has them in their own order
    program = as_python(exact(**recipe).recipe, "tiny")
    sync_api.expect(threads.locator(".rs-code")).to_have_value(program, timeout=60_000)


def test_a_block_tells_whom_it_follows(threads, exact):
    painted(threads)
    threads.locator("[data-at='5']").click()
    threads.click(".rs-measure")
    threads.locator(".rs-measured", has_text="Below:").wait_for(timeout=120_000)
    found = threads.locator(".rs-effect").all_inner_texts()
    assert len(found) == 4 and all(text.startswith("±") for text in found)
    threads.locator("[data-at='6']").hover()
    threads.wait_for_selector(".rs-lens:not([hidden])", state="attached")
    assert threads.locator(".rs-lens li").count() == 4


def test_the_picture_follows_the_hand(threads):
    loaded(threads)
    threads.locator(".rs-live input").check()
    switches = threads.locator(".rs-switch")
    for n in range(3):
        switches.nth(n).click()
    left = threads.locator(".rs-hit:not(.rs-off)").get_attribute("data-id")
    threads.wait_for_url(lambda url: f"~n{left}~" in url, timeout=60_000)
    assert threads.locator("html[data-rissole=done][data-kind=sketch]").count() == 1
    assert decode(threads.url).neighbors == (int(left),)
    threads.evaluate(AT_ONCE)
    threads.wait_for_selector("html[data-rissole=done][data-kind='']", state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_whole_and_everybody_can_use_it(browser, threaded, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    how = {**phone, "color_scheme": scheme, "reduced_motion": "reduce"}
    with visiting(browser, threaded, **how) as page:
        loaded(page)
        painted(page)
        page.locator("[data-at='5']").tap()
        page.locator(".rs-close").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(page).response["violations"]
        assert [(one["id"], [n["html"][:90] for n in one["nodes"]]) for one in found] == []
