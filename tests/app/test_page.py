"""The page as its visitors use it, in a real browser."""

import re
import threading
import time

import numpy as np
import pytest
import torch
from calling import eventually
from gradio_client import Client
from playwright.sync_api import expect
from visiting import (
    CLOSED,
    DRAWN,
    PATIENCE,
    PHONE,
    WATCH,
    Late,
    Visit,
    assert_canvas_shows,
    canvas,
    hold,
    save,
    upload,
)

from rissole.data.images import read_recipe
from rissole.evaluation.seams import seam_ratio

STEP = 1 / 255  # the page knows 8 bits of each share


def test_open_pick_generate_and_download(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    ids = pipe.retrieve(item=5, k=pipe.defaults["k"]).ids
    assert visit.hits() == ids

    page.click(".rs-switch >> nth=0")  # switch the nearest one off
    page.get_by_label("One after another").check()
    visit.set_steps(4)
    page.evaluate(WATCH)
    page.click("#rs-generate")
    visit.finish()
    assert page.evaluate("window.seen.size") > 3
    assert visit.words().startswith("Done in")
    assert page.locator(".rs-tile").count() == len(ids) - 1

    with page.expect_download() as download:
        page.click("#rs-download")
    assert download.value.suggested_filename.endswith(".png")
    file = download.value.path()
    recipe = read_recipe(file)
    assert sorted(recipe["neighbors"]) == sorted(ids[1:])
    assert (recipe["order"], recipe["num_inference_steps"]) == ("sequential", 4)
    assert page.input_value("#rs-seed input") == str(recipe["seed"])
    assert_canvas_shows(page, file)


def test_stop_keeps_the_picture_so_far(visit, endless):
    page = visit.page
    page.get_by_label("One after another").check()
    page.click("#rs-generate")
    visit.wait_for("running")
    page.wait_for_selector(".rs-pixels[data-shown=running]", state="attached")
    page.click("#rs-stop")
    visit.wait_for("stopped")
    assert visit.words().startswith("Stopped at block")
    assert eventually(lambda: not endless)
    assert page.locator("[data-state=active]").count() == 1  # nothing covers the unfinished block
    visit.settle()
    kept = page.evaluate(DRAWN)
    visit.settle()
    assert page.evaluate(DRAWN) == kept

    page.click("#rs-generate")
    visit.wait_for("running")


ROOM = """() => [...document.querySelectorAll(".rs-views, .rs-heading h2, #rs-actions")]
  .filter((node) => node.scrollWidth > node.clientWidth + 1 || node.clientHeight > 70)
  .map((node) => node.className || node.id)"""  # what has too little of it
PRESS = "document.getElementById('rs-{}').click();"
AGAIN = """document.addEventListener("rissole:phase", () => {
  document.getElementById("rs-generate").click();
}, { once: true });"""


def test_stop_at_once_stops_what_was_begun(visit, under_way):
    page = visit.page
    page.get_by_label("One after another").check()
    visit.set_steps(100)
    page.evaluate(PRESS.format("generate") + PRESS.format("stop"))  # before the server has heard
    visit.wait_for("stopped")
    page.click("#rs-generate")
    visit.wait_for("running")
    visit.set_steps(1)
    page.evaluate(AGAIN + PRESS.format("stop"))  # before that run has ended
    visit.finish()
    assert eventually(lambda: not under_way)


def test_the_end_of_a_stopped_run_is_not_taken_for_the_next_one(visit, endless):
    page = visit.page
    late = Late(page)
    page.wait_for_selector(".rs-hit")
    page.click("#rs-generate")
    visit.wait_for("running")
    late.hold("process_completed", lambda: page.click("#rs-stop"))
    late.let_go(lambda: page.click("#rs-generate"))
    visit.wait_for("running")
    page.click("#rs-stop")
    visit.wait_for("stopped")
    assert eventually(lambda: not endless)


def test_a_double_click_paints(visit):
    visit.set_steps(2)
    visit.page.dblclick("#rs-generate")  # Stop comes up under the mouse
    visit.finish()


def test_keys_find_stop_and_generate_in_turn(visit):
    page = visit.page
    page.get_by_label("One after another").check()
    visit.set_steps(100)
    page.focus("#rs-generate")
    page.keyboard.press("Enter")
    visit.wait_for("running")
    assert page.evaluate("document.activeElement.id") == "rs-stop"
    # a key that is held down does not stop it at once: so many frames take longer
    page.wait_for_function("document.querySelector('.rs-pixels').dataset.frames > 12")
    page.keyboard.press("Enter")
    visit.wait_for("stopped")
    assert page.evaluate("document.activeElement.id") == "rs-generate"


def test_a_seed_that_is_typed_is_used(visit):
    page = visit.page
    page.fill("#rs-seed input", "42")  # like a paste: no key is pressed
    page.press("#rs-seed input", "Tab")
    expect(page.get_by_label("New seed every time")).not_to_be_checked()
    visit.paint(steps=1)
    assert save(page)["seed"] == 42
    page.get_by_label("New seed every time").check()


def test_leaving_in_mid_run_leaves_nothing_running(visit, under_way):
    for leave in (visit.page.reload, visit.page.close):
        visit.page.wait_for_selector(".rs-hit")
        visit.page.get_by_label("One after another").check()
        visit.set_steps(100)
        visit.page.click("#rs-generate")
        visit.wait_for("running")
        assert len(under_way) == 1
        leave()
        assert eventually(lambda: not under_way)


def test_a_painting_goes_on_until_another_page_has_come(visit):
    page = visit.page
    page.route("**/elsewhere", lambda route: route.fulfill(status=204))  # an answer that is no page
    visit.set_steps(100)
    page.click("#rs-generate")
    visit.wait_for("running")
    page.evaluate("location.assign('elsewhere')")
    visit.finish()
    visit.paint(1)


def test_keys_paint_and_move_between_blocks(visit):
    page = visit.page
    visit.set_steps(3)
    page.keyboard.press("Control+Enter")
    visit.wait_for("done")
    page.click(".rs-cell >> nth=0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".rs-focus-name") == "Row 2, column 2"
    assert page.locator(".rs-cell[aria-selected=true]").get_attribute("data-at") == "5"
    shares = [int(text.split()[0]) for text in page.locator(".rs-percent").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=len(shares))


def test_repaint_a_block_and_go_back(visit, pipe):
    page = visit.page
    assert page.locator(".rs-repaint").is_hidden()
    visit.set_steps(3)
    page.click("#rs-generate")
    visit.finish()
    assert page.locator(".rs-undo").is_hidden()
    first, recipe = canvas(page), save(page)

    page.get_by_label("2 × 2").check()  # the picture on show keeps its own grid
    page.click(".rs-switch >> nth=1")  # the repaint takes the neighbors that are on now
    page.click("[data-at='13']")
    page.click(".rs-repaint")
    page.wait_for_selector(".rs-words:has-text('Row 4, column 2 repainted in')")
    visit.finish()
    drawn, second, new = page.evaluate(DRAWN), canvas(page), save(page)
    moved = (second != first).any(2)
    assert moved[96:, 32:64].mean() > 0.9
    assert not moved[:64].any()
    assert (new["init"], new["blocks"], new["grid"]) == (recipe, [[3, 1]], 4)
    assert set(new["neighbors"]) < set(recipe["neighbors"])
    assert page.locator(".rs-tile").count() == len(recipe["neighbors"]) - 1
    page.click("[data-at='1']")  # painted before, with one neighbor more
    assert page.locator(".rs-percent").count() == len(recipe["neighbors"])

    page.keyboard.press("r")
    page.wait_for_selector(".rs-words:has-text('Row 1, column 2 repainted')")
    visit.finish()
    third = save(page)
    assert (third["init"], third["blocks"]) == (new, [[0, 1]])
    page.focus(".rs-cell[aria-selected=true]")
    page.keyboard.press("r")  # once more: only the seed is another
    visit.finish()
    fourth = save(page)
    assert fourth == {**third, "seed": fourth["seed"]} != third
    assert (canvas(page) == np.asarray(pipe(**fourth).images[0])).all()
    page.click(".rs-undo")
    page.wait_for_selector(".rs-words:has-text('Back at the picture before')")
    visit.finish()
    assert save(page) == third

    page.focus(".rs-cell[aria-selected=true]")
    page.keyboard.press("z")
    page.wait_for_function(f"({DRAWN})() === {drawn}")
    assert (canvas(page) == second).all()
    page.click(".rs-undo")
    page.locator(".rs-undo").wait_for(state="hidden")
    visit.finish()
    assert (canvas(page) == first).all()
    # the button that was pressed is gone, and the focus is not lost
    assert "rs-cell" in page.evaluate("document.activeElement.className")
    assert save(page) == recipe


def test_stop_during_a_repaint_keeps_the_rest_and_goes_back(visit, request):
    page = visit.page
    visit.paint()
    first = canvas(page)
    request.getfixturevalue("endless")
    page.click("[data-at='5']")
    page.keyboard.press("r")
    visit.wait_for("running")
    page.keyboard.press("r")  # not while one is under way
    frames = int(page.get_attribute(".rs-pixels", "data-frames"))
    page.wait_for_function(f"document.querySelector('.rs-pixels').dataset.frames > {frames + 1}")
    page.keyboard.press("Escape")
    visit.wait_for("stopped")
    assert visit.words().startswith("Stopped at row 2, column 2, step")
    visit.settle()
    moved = (canvas(page) != first).any(2)
    assert moved[32:64, 32:64].any()
    moved[32:64, 32:64] = False
    assert not moved.any()
    assert page.locator(".rs-repaint").is_hidden()

    page.click(".rs-undo")
    visit.finish()
    assert (canvas(page) == first).all()


def test_who_waits_is_told_the_place_in_line(visit, address, pipe, monkeypatch):
    stream, gate = pipe.stream, threading.Event()

    def held(*args, **options):
        gate.wait(180)
        yield from stream(*args, **options)

    monkeypatch.setattr(pipe, "stream", held)
    others = Client(address, verbose=False)
    jobs = [others.submit(steps=1, api_name="/generate") for _ in range(2)]
    while any(job.status().code.name != "PROCESSING" for job in jobs):
        time.sleep(0.05)
    visit.set_steps(1)
    visit.page.click("#rs-generate")
    visit.page.wait_for_selector(".rs-words:has-text('2 before you')")
    gate.set()
    visit.finish()
    assert all(job.result() for job in jobs)


def test_what_is_asked_for_before_the_last_run_is_over_is_not_lost(visit, pipe, monkeypatch):
    page, stream, gate = visit.page, pipe.stream, threading.Event()

    def lasting(*args, **options):
        yield from stream(*args, **options)
        gate.wait(PATIENCE / 1000)  # all is painted, and the library still counts the run

    monkeypatch.setattr(pipe, "stream", lasting)
    visit.paint(1)
    page.fill("#rs-seed input", "-5")
    page.click("#rs-generate")
    page.evaluate("new Promise(requestAnimationFrame)")
    gate.set()
    visit.wait_for("error")
    assert "seed must be" in visit.words()


def test_a_repaint_asked_for_before_the_last_one_is_over_is_not_lost(visit, pipe, monkeypatch):
    page, stream, gate = visit.page, pipe.stream, threading.Event()
    visit.paint(1)
    page.click("[data-at='5']")

    def lasting(*args, **options):
        yield from stream(*args, **options)
        gate.wait(PATIENCE / 1000)

    monkeypatch.setattr(pipe, "stream", lasting)
    page.click(".rs-repaint")
    visit.finish()
    before = page.evaluate(DRAWN)
    page.click(".rs-repaint")
    page.evaluate("new Promise(requestAnimationFrame)")
    gate.set()
    page.wait_for_function(f"() => ({DRAWN})() !== {before}")
    visit.finish()


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_going_back_has_an_end(visit, monkeypatch):
    monkeypatch.setattr("rissole.app.painting.PICTURES_KEPT", 2)
    page = visit.page
    visit.set_steps(1)
    seen = []
    for _ in range(3):
        page.locator("html").evaluate("html => { html.dataset.rissole = 'asked'; }")
        page.click("#rs-generate")
        visit.finish()
        seen.append(canvas(page))
    assert visit.overflow() <= 0
    page.click(".rs-undo")
    page.locator(".rs-undo").wait_for(state="hidden")
    visit.finish()
    assert (canvas(page) == seen[1]).all()


def test_upload_of_a_picture_and_of_something_else(visit, pipe, tmp_path):
    page = visit.page
    good, bad = tmp_path / "mine.png", tmp_path / "notes.txt"
    pipe.database.image(6).resize((200, 150)).save(good)
    bad.write_text("not a picture")
    upload(page, good)
    page.get_by_label("Place of the part").fill("0")  # it is no square: its left part
    page.click("text=Search with this part")
    page.wait_for_selector(".rs-query-name:has-text('Your upload')")
    before = visit.hits()
    upload(page, good)
    page.click(".rs-crop-dialog >> text=Cancel")
    assert page.inner_text(".rs-query-name") == "Your upload"
    upload(page, bad)
    page.wait_for_selector("text=notes.txt is text, not a picture")
    assert visit.hits() == before


def test_a_photo_that_takes_long_to_arrive_is_waited_for(visit, pipe, tmp_path):
    page = visit.page
    pipe.database.image(6).save(tmp_path / "mine.png")
    let_go = hold(page, "**/upload*")
    upload(page, tmp_path / "mine.png")
    page.wait_for_selector(".rs-query-name:has-text('Reading your picture')")
    let_go()
    page.wait_for_selector(".rs-query-name:has-text('Your upload')")


@pytest.mark.parametrize(
    "visit", [{"width": 1024, "height": 768}, {"width": 720, "height": 450}], indirect=True
)
def test_between_desktop_and_phone_nothing_overlaps(visit):
    page = visit.page
    assert page.evaluate(ROOM) == []
    page.locator(".rs-picture").scroll_into_view_if_needed()
    sizes = [page.locator(name).bounding_box() for name in (".rs-picture", "#rs-generate")]
    assert sizes[0]["width"] >= 300
    assert 0 <= sizes[1]["y"] <= visit.page.viewport_size["height"] - sizes[1]["height"]


def test_an_error_while_painting_is_said_on_the_canvas(visit):
    visit.page.locator("#rs-seed input").fill("-5")
    visit.page.get_by_label("New seed every time").uncheck()
    visit.page.click("#rs-generate")
    visit.wait_for("error")
    assert "seed must be from 0" in visit.words()
    visit.page.get_by_label("New seed every time").check()
    visit.set_steps(1)
    visit.page.click("#rs-generate")
    visit.wait_for("done")


# ---- inspecting ----------------------------------------------------------------------------------


def test_inspect_a_block(visit, pipe):
    page = visit.page
    visit.paint(steps=3)
    recipe = save(page)
    out = pipe(**recipe)
    page.click("[data-at='6']")
    shares = out.attention[1, 2]
    pictured, percent = page.inner_text(".rs-other figcaption").removeprefix("Picture ").split(": ")
    share = shares[out.neighbors.index(int(pictured))]
    assert share >= shares.max() - STEP  # of two equals to 8 bits the page may take either
    assert int(percent.split()[0]) == pytest.approx(100 * share, abs=0.5 + 100 * STEP)
    assert page.inner_text(".rs-focus-why").startswith(f"{out.network_calls} network calls, ")
    assert page.inner_text(".rs-focus-why").endswith("for 16 blocks together")

    page.click(".rs-tile-pick >> nth=1")  # another neighbor, large
    assert page.inner_text(".rs-other figcaption").startswith(f"Picture {out.neighbors[1]}:")


def test_who_won_where(visit, pipe):
    page = visit.page
    visit.paint()
    *_, last = pipe.stream(**save(page))
    page.click("[data-view=won]")
    marks = page.evaluate(MARKS)
    assert {(row, col) for row, col, *_ in marks} == set(np.ndindex(4, 4))
    shares = last.attention_map
    side = shares.shape[-1] // 4
    for row, col, n, x, y in marks:  # every number lies on a cell of its own color
        cell = shares[:, int((row + y) * side), int((col + x) * side)]
        assert cell[n - 1] >= cell.max() - STEP
    assert page.locator(".rs-legend li").count() == len(last.neighbors)
    whole = page.evaluate(OVERLAY)
    page.click(".rs-tile-pick >> nth=0")
    assert page.evaluate(OVERLAY) not in (whole, 0)
    page.click("[data-view=picture]")
    assert page.locator(".rs-overlay").is_hidden()


MARKS = """() => [...document.querySelectorAll(".rs-cell")].flatMap((cell) =>
  [...cell.querySelectorAll(".rs-mark")].map(({ textContent, style }) =>
    [cell.dataset.row, cell.dataset.col, textContent, parseFloat(style.left) / 100,
      parseFloat(style.top) / 100].map(Number)))"""
OVERLAY = """() => {
  const { width, height } = document.querySelector(".rs-overlay");
  const pen = document.querySelector(".rs-overlay").getContext("2d");
  return pen.getImageData(0, 0, width, height).data.reduce((a, b) => (a * 31 + b) | 0, 0);
}"""


def test_seams_are_measured_as_everywhere(visit):
    page = visit.page
    page.get_by_label("Independent, as first published").check()
    visit.paint()
    page.click("[data-view=seams]")
    shown = float(page.inner_text(".rs-cost").split()[2].rstrip("."))
    drawn = torch.from_numpy(canvas(page)).permute(2, 0, 1)[None].to(torch.uint8)
    assert shown == pytest.approx(seam_ratio(drawn, 4), abs=0.006)


def test_the_film_can_be_scrubbed(visit):
    page = visit.page
    page.get_by_label("One after another").check()
    visit.paint(steps=3)
    last = canvas(page)
    page.focus(".rs-scrub")
    page.keyboard.press("Home")
    page.wait_for_selector("[data-shown=scrubbed]")
    first = visit.words()  # steps may outrun the frames
    assert re.fullmatch(r"Block 1 of 16, step [123] of 3", first)
    assert (canvas(page) != last).any()
    assert page.locator("[data-state=waiting]").count() == 15
    page.keyboard.press("End")
    page.wait_for_selector(".rs-words:has-text('Done in')")
    visit.finish()
    assert (canvas(page) == last).all()

    page.click("[data-at='0']")
    page.click(".rs-moments button >> nth=0")
    assert page.locator(".rs-moments button").count() in (1, 2, 3)
    assert visit.words() == first
    page.click(".rs-play")
    page.wait_for_selector(".rs-words:has-text('Done in')")


def test_a_block_by_itself_tells_its_own_cost(visit):
    visit.page.get_by_label("One after another").check()
    visit.paint(steps=3)
    visit.page.click("[data-at='7']")
    assert visit.page.inner_text(".rs-focus-why").startswith("4 network calls, ")  # one guided
    assert visit.page.inner_text(".rs-focus-why").endswith("for this block")


# ---- neighbors of single blocks -----------------------------------------------------------------


def own(page) -> dict:
    return save(page)["block_neighbors"]


def test_drag_a_neighbor_onto_a_block(visit):
    page, hits = visit.page, visit.hits()
    drag(page, ".rs-hit-pick >> nth=1", "[data-at='6']")
    assert page.locator("[data-at='6'] .rs-badge").count() == 1
    drag(page, "[data-item='9']", "[data-at='0']")  # any picture of the gallery, too
    drag(page, "[data-item='10']", "[data-at='0']")
    visit.paint()
    assert own(page) == {"0,0": [9, 10], "1,2": [hits[1]]}
    drag(page, ".rs-tile-pick >> nth=0", "[data-at='5']")
    assert page.locator(".rs-badge").count() == 3
    page.click(".rs-clear")
    assert page.locator(".rs-badge").count() == 0


def drag(page, source: str, target: str) -> None:
    for place, act in ((source, page.mouse.down), (target, page.mouse.up)):
        page.locator(place).scroll_into_view_if_needed()
        box = page.locator(place).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
        page.mouse.move(x, y, steps=4)
        act()


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_tap_a_neighbor_then_blocks(visit):
    page, hits = visit.page, visit.hits()
    page.tap(".rs-hit-pick >> nth=2")
    page.tap(".rs-goto")
    page.locator(".rs-goto").wait_for(state="hidden")
    for at in (1, 2, 3):
        page.tap(f"[data-at='{at}']")
    page.tap("[data-at='3']")  # and back
    page.tap(".rs-release")
    assert page.locator(".rs-badge").count() == 2
    assert visit.overflow() <= 0
    visit.set_steps(2)
    page.tap("#rs-generate")
    visit.finish()
    assert visit.overflow() <= 0
    assert page.locator(".rs-picture").bounding_box()["width"] > 300
    assert own(page) == {"0,1": [hits[2]], "0,2": [hits[2]]}
    page.tap("[data-at='1'] .rs-badge")  # one tap clears
    assert page.locator(".rs-badge").count() == 1


def test_give_a_neighbor_with_keys(visit):
    page, hits = visit.page, visit.hits()
    page.focus(".rs-hit-pick >> nth=0")
    page.keyboard.press("Enter")
    page.focus(".rs-cell[tabindex='0']")  # row 2, column 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert page.locator(".rs-held").is_hidden()
    visit.paint()
    assert own(page) == {"2,1": [hits[0]]}
    page.focus("[data-at='9']")
    page.keyboard.press("Delete")
    assert page.locator(".rs-badge").count() == 0


def test_another_grid_clears_the_neighbors_of_blocks(visit):
    page = visit.page
    drag(page, ".rs-hit-pick >> nth=1", "[data-at='15']")
    page.get_by_label("2 × 2").check()
    page.wait_for_selector("[data-grid='2']")
    assert page.locator(".rs-badge").count() == 0


# ---- neighbors ----------------------------------------------------------------------------------


def test_a_pinned_neighbor_survives_a_search(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    kept = visit.hits()[2]
    page.click(".rs-hit-pick >> nth=2")
    page.click(".rs-tool-pin")
    query = next(i for i in range(24) if kept not in (i, *pipe.retrieve(item=i, k=4).ids))
    page.click(f"[data-item='{query}']")
    page.wait_for_selector(f".rs-query-name:has-text('Picture {query} ')")
    found = pipe.retrieve(item=query, k=4)
    assert visit.hits() == [kept, *found.ids]
    score = float(pipe.database.vector(query) @ pipe.database.vector(kept))
    assert page.inner_text(".rs-score >> nth=0") == f"{score:.2f}"


def test_add_move_and_remove_neighbors(visit):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    hits = visit.hits()
    fresh = [i for i in range(24) if i not in (5, *hits)][:2]
    page.click("[data-tap=add]")
    page.click(f"[data-item='{fresh[0]}']")
    drag(page, f"[data-item='{fresh[1]}']", ".rs-hits")
    assert visit.hits() == [*hits, *fresh]
    page.focus(f".rs-hit-pick[data-id='{fresh[1]}']")
    page.keyboard.press("Alt+ArrowLeft")
    assert visit.hits() == [*hits, *fresh[::-1]]
    drag(page, f".rs-hit-pick[data-id='{fresh[0]}']", ".rs-hit >> nth=0")
    assert visit.hits() == [fresh[0], *hits, fresh[1]]
    page.click(f".rs-hit-pick[data-id='{hits[0]}']")
    page.click(".rs-tool-remove")
    visit.paint()
    assert save(page)["neighbors"] == [fresh[0], *hits[1:], fresh[1]]


def test_near_duplicates_k_and_the_last_neighbor(visit, monkeypatch):
    page = visit.page
    for bound in ("NEAR", "ALIKE"):
        monkeypatch.setattr(f"rissole.app.choose.{bound}", -1.1)  # everybody is a twin
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    first = visit.hits()[0]
    label = page.get_attribute(".rs-hit-pick >> nth=1", "aria-label")
    assert f"nearly the same as picture {first}" in label
    assert page.locator(".rs-twin:visible").count() == len(visit.hits()) - 1
    box = page.locator("#rs-k input[type=number]")
    box.fill("3")
    box.press("Tab")
    page.wait_for_function("document.querySelectorAll('.rs-hit').length === 3")
    for switch in page.locator(".rs-switch").all():
        switch.click()
    assert page.locator(".rs-switch[aria-checked=true]").count() == 1
    assert "has to stay on" in page.inner_text(".rs-hits-hint")


def test_the_gallery_scrolls_and_obeys_keys(visit):
    page = visit.page
    last = "[data-item='23']"
    page.focus("[data-item='0']")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.item") == "23"
    inside = page.locator(last).bounding_box(), page.locator(".rs-gallery").bounding_box()
    assert inside[0]["y"] + inside[0]["height"] <= inside[1]["y"] + inside[1]["height"] + 1
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rs-query-name:has-text('Picture 22 ')")
    assert page.get_attribute("[data-item='22']", "aria-selected") == "true"


def test_more_like_this_and_search_from_a_neighbor(visit, pipe):
    page = visit.page
    visit.paint()
    recipe = save(page)
    page.click(".rs-more")
    page.wait_for_selector(".rs-query-name:has-text('painted here')")
    assert visit.hits() == pipe.retrieve(image=pipe(**recipe).images[0], k=4).ids
    item = visit.hits()[1]
    page.click(".rs-hit-pick >> nth=1")
    page.click(".rs-tool-search")
    page.wait_for_selector(f".rs-query-name:has-text('Picture {item} ')")
    assert visit.hits() == pipe.retrieve(item=item, k=4).ids


def test_a_preset_paints_at_once(visit):
    visit.page.click("#rs-preset-published")
    visit.finish()
    assert save(visit.page)["order"] == "independent"


# ---- repainting several --------------------------------------------------------------------------


def test_repaint_several_blocks_and_compare(visit, pipe):
    page = visit.page
    visit.paint()
    first = canvas(page)
    assert page.is_disabled("[data-view=wipe]")
    page.click("[data-at='1']")
    page.click("[data-at='2']", modifiers=["Shift"])
    page.focus("[data-at='2']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert page.inner_text(".rs-repaint") == "Repaint 3 blocks"
    drag(page, ".rs-hit-pick >> nth=3", "[data-at='2']")
    page.click(".rs-repaint")
    page.wait_for_selector(".rs-words:has-text('3 blocks repainted in')")
    visit.finish()
    recipe, second = save(page), canvas(page)
    assert recipe["blocks"] == [[0, 1], [0, 2], [1, 2]]
    assert recipe["block_neighbors"] == {"0,2": [visit.hits()[3]]}
    assert (second == np.asarray(pipe(**recipe).images[0])).all()
    assert not (first != second)[96:].any()  # blocks beside see a little of it when decoded

    page.click("[data-view=wipe]")
    page.wait_for_function(
        """() => document.querySelector(".rs-earlier").getContext("2d")
          .getImageData(0, 0, 1, 1).data[3] === 255"""
    )
    shown = page.evaluate(
        """() => [...document.querySelector(".rs-earlier").getContext("2d")
          .getImageData(0, 0, 128, 128).data]"""
    )
    assert (np.array(shown, np.int16).reshape(128, 128, 4)[..., :3] == first).all()
    page.focus(".rs-wipe input")
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('.rs-picture').style.cssText") == "--at: 0%;"
    page.keyboard.press("z")
    page.wait_for_selector(".rs-words:has-text('Back at the picture before')")
    visit.finish()
    assert (canvas(page) == first).all()


def test_a_mouse_drawn_over_blocks_picks_them(visit):
    visit.paint()
    drag(visit.page, "[data-at='5']", "[data-at='15']")
    assert visit.page.locator(".rs-cell.rs-picked").count() == 9
    visit.page.keyboard.press("r")
    visit.page.wait_for_selector(".rs-words:has-text('9 blocks repainted')")


# ---- the page as a whole -------------------------------------------------------------------------


def test_the_list_of_keys(visit):
    page = visit.page
    page.keyboard.press("?")
    assert page.is_visible("#rs-keylist")
    page.keyboard.press("Escape")
    assert page.is_hidden("#rs-keylist")
    page.locator("#rs-seed input").press("z")  # a letter in a field is no command
    page.click("[data-keys] >> nth=0")
    assert page.is_visible("#rs-keylist")


def test_what_is_picked_while_the_last_answer_ends_is_found(visit):
    page = visit.page
    late = Late(page)
    page.wait_for_selector(".rs-hit")
    late.hold(CLOSED, lambda: page.click("[data-item='1']"))
    late.let_go(lambda: page.click("[data-item='2']"))
    page.wait_for_selector(".rs-query-name:has-text('Picture 2 ')")
    visit.paint()


def test_a_lost_server_is_noticed(visit):
    page = visit.page
    visit.context.set_offline(True)
    page.wait_for_selector("#rs-offline:visible")
    visit.context.set_offline(False)
    page.wait_for_selector("#rs-offline", state="hidden")
    visit.troubles.clear()  # the browser reports the requests that failed
    visit.paint()


@pytest.mark.slow
def test_twenty_visitors_each_get_their_own_picture(browser, address, pipe):
    """All paint at once, look around meanwhile, and in the end see what their recipe paints."""
    visits = [Visit(browser, address) for _ in range(20)]
    for seed, visit in enumerate(visits):
        visit.page.get_by_label("New seed every time").uncheck()
        visit.page.locator("#rs-seed input").fill(str(seed))
        visit.set_steps(20)
    for visit in visits:
        visit.page.click("#rs-generate")
    for at, visit in enumerate(visits):
        visit.page.click(f"[data-at='{at % 16}']")
        assert (
            visit.page.inner_text(".rs-focus-name") == f"Row {at // 4 % 4 + 1}, column {at % 4 + 1}"
        )
    for seed, visit in enumerate(visits):
        visit.finish()
        recipe = save(visit.page)
        assert (recipe["seed"], recipe["neighbors"]) == (seed, visit.hits())
        assert (canvas(visit.page) == np.asarray(pipe(**recipe).images[0])).all()
        visit.leave()
        assert visit.troubles == []
