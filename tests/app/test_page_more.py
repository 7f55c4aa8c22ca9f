"""Keeping, sharing, comparing and explaining, as visitors do it."""

import base64
import io
import re

import numpy as np
import pytest
from calling import eventually
from PIL import Image
from visiting import PHONE, canvas, hold, save

from rissole.app.links import decode
from rissole.app.variants import VARIANTS, variants
from rissole.config import Recipe
from rissole.data.images import read_recipe, save_png
from rissole.retrieval.training_photos import TrainingPhotos

DROP = """([text, name]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name));
  const options = { dataTransfer: carried, bubbles: true, cancelable: true };
  const target = document.querySelector(".rs-picture .rs-cell");
  for (const name of ["dragover", "drop"]) target.dispatchEvent(new DragEvent(name, options));
}"""


# when a picture is drawn: its link, and that of the picture that the tools are for
AT_HAND = """() => {
  window.next = new Promise((done) => document.addEventListener("rissole:drawn", (event) => {
    const chosen = document.querySelector("[data-of=history] [aria-selected=true]");
    if (event.detail.state === "done") done([event.detail.link, chosen?.dataset.link]);
  }));
}"""


def paint(visit, steps: int = 2) -> None:
    visit.page.evaluate("document.documentElement.dataset.rissole = 'asked'")
    visit.set_steps(steps)
    visit.page.click("#rs-generate")
    finish(visit)


def finish(visit) -> None:
    visit.finish()


def kept(page, shelf: str = "history"):
    return page.locator(f"[data-of={shelf}] .rs-kept")


def tool(page, name: str) -> None:
    page.click(f".rs-share [data-do={name}]")


def link(page) -> str:
    tool(page, "link")
    page.wait_for_selector(".rs-said:has-text('ink')")
    return page.input_value(".rs-link")


def download(page, press: str):
    with page.expect_download() as caught:
        page.click(press)
    return caught.value


def drop(page, data: bytes, name: str = "picture.png") -> None:
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])


def open_file(page, data: bytes, name: str = "picture.png") -> None:
    with page.expect_file_chooser() as chooser:
        tool(page, "file")
    chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": data})


# ---- keep and share ------------------------------------------------------------------------------


def test_history_favorites_and_all_but_the_seed(visit):
    page = visit.page
    assert page.is_disabled(".rs-share [data-do=open]")
    paint(visit, 2)
    first, recipe = canvas(page), save(page)
    tool(page, "favorite")
    paint(visit, 3)
    assert (canvas(page) != first).any()
    assert kept(page).count() == 2

    kept(page).nth(1).click()
    tool(page, "open")
    page.wait_for_function("document.querySelector('#rs-steps input').value === '2'")
    finish(visit)
    assert (canvas(page) == first).all()
    assert save(page) == recipe
    assert page.input_value("#rs-seed input") == str(recipe["seed"])
    assert not page.is_checked("#rs-new-seed input")
    assert kept(page).count() == 2  # opened again is no other picture

    kept(page).nth(0).focus()  # by keys: the newer one, but with a seed of its own
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    tool(page, "fresh")
    page.wait_for_function("document.querySelector('#rs-steps input').value === '3'")
    assert page.is_checked("#rs-new-seed input")
    assert (canvas(page) == first).all()

    visit.go(page.url)
    page.wait_for_selector(".rs-hit")
    assert (kept(page).count(), kept(page, "favorites").count()) == (2, 1)
    kept(page, "favorites").nth(0).dblclick()
    finish(visit)
    assert (canvas(page) == first).all()
    tool(page, "favorite")
    assert kept(page, "favorites").count() == 0


def test_history_has_an_end(visit):
    page = visit.page
    paint(visit, 1)
    for count in (11, 21, 24):
        # as if many were painted: each message with a link of its own is another picture
        page.evaluate(
            """() => { const frame = document.querySelector(".rs-kept img").src;
            for (let n = 0; n < 10; n += 1) window.rissole.tell("drawn",
              { state: "done", link: `p=${Math.random()}`, seed: n, frame }); }"""
        )
        page.wait_for_function(
            "(n) => document.querySelectorAll('[data-of=history] .rs-kept').length === n", arg=count
        )


def test_a_link_opens_the_same_picture(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    page.get_by_label("2 × 2").check()
    paint(visit)
    page.click("[data-at='1']")
    page.keyboard.press("r")
    page.wait_for_selector(".rs-words:has-text('repainted')")
    visit.finish()
    painted, recipe, address_ = canvas(page), save(page), link(page)
    assert decode(address_).to_dict() == recipe
    assert len(recipe["blocks"]) == 1

    visit.go(address_)
    finish(visit)
    assert (canvas(page) == painted).all()
    assert save(page) == recipe
    assert page.inner_text(".rs-query-name").startswith("Picture 5 ")
    assert sorted(visit.hits()) == sorted(recipe["neighbors"])
    assert page.is_checked("#rs-grid input[value='2']")
    page.click("[data-at='2']")  # painted before the repaint
    assert page.inner_text(".rs-moments .rs-hint").startswith("This block was kept.")
    page.click("[data-view=wipe]:enabled")
    page.click("[data-view=picture]")
    page.click(".rs-undo")  # the picture before the repaint came with it
    page.wait_for_selector(".rs-words:has-text('Back at the picture before')")


BAD_LINKS = {
    "another bundle": ("?b=000000000000&p=n1~op~g4~t2~w1.5~s0", "other weights"),
    "garbage": ("?p=%00%ff~~n&p=<b>", "link is damaged"),
    "no such picture": ("?p=n99999~op~g4~t2~w1.5~s0", "picture 99999 is not in the database"),
    "no such query": ("?q=99999&p=n1~op~g4~t2~w1.5~s0", "picture 99999 is not in the database"),
    "out of range": ("?p=n1~t9999", "num_inference_steps must be from"),
}


WAITED = """document.addEventListener("rissole:waiting", () => { window.waited = true; })"""


def test_stop_does_not_wait_for_what_was_sent(visit, request):
    page = visit.page
    paint(visit)
    address = link(page)
    request.getfixturevalue("endless")
    for begin in (lambda: page.click("#rs-generate"), lambda: visit.go(address)):
        begin()
        visit.wait_for("running")
        page.evaluate(WAITED)
        page.click("#rs-stop")
        visit.wait_for("stopped")
        assert not page.evaluate("Boolean(window.waited)")


def test_a_bad_link_says_why_and_the_page_works(visit):
    for query, said in BAD_LINKS.values():
        visit.go(visit.address + query)
        visit.wait_for("error")
        assert said in visit.words()
        assert "\n" not in visit.words()
    paint(visit, 1)


def test_a_dropped_png_brings_everything_back(visit, pipe):
    page = visit.page
    own = {"2,1": [7, 3]}
    values = {"neighbors": [3, 17, 5], "order": "sequential", "num_inference_steps": 2, "seed": 6}
    out = pipe(**values, guidance_scale=2.5, block_neighbors=own, strength=1.5)
    file = io.BytesIO()
    save_png(out.images[0], file, out.recipe)
    page.get_by_label("2 × 2").check()
    drop(page, file.getvalue())
    finish(visit)
    assert (canvas(page) == np.asarray(out.images[0])).all()
    assert save(page) == out.recipe
    assert sorted(visit.hits()) == [3, 5, 17]
    assert page.input_value("#rs-guidance input[type=number]") == "2.5"
    assert page.input_value("#rs-strength input[type=number]") == "1.5"
    assert page.is_checked("#rs-order input[value=sequential]")
    assert page.is_checked("#rs-grid input[value='4']")

    page.get_by_label("New seed every time").check()
    page.get_by_label("New seed every time").uncheck()
    paint(visit)  # the settings alone paint it again: the blocks have kept their neighbors
    assert (canvas(page) == np.asarray(out.images[0])).all()


def test_a_file_that_cannot_be_opened_leaves_the_canvas_alone(visit, pipe):
    page, plain, other = visit.page, io.BytesIO(), io.BytesIO()
    pipe.database.image(1).save(plain, "PNG")
    save_png(pipe.database.image(1), other, {"neighbors": [1], "bundle": "0" * 12})
    paint(visit)
    before = canvas(page)
    for bring, data, said in (
        (open_file, plain.getvalue(), "carries no recipe"),
        (drop, other.getvalue(), "other weights"),
        (open_file, b"no picture", "not a picture"),
    ):
        bring(page, data)
        page.wait_for_selector(f".toast-body:has-text('{said}')")
        page.wait_for_selector(".rs-said:has-text('could not be opened')")
        assert (canvas(page) == before).all()
        assert page.evaluate("document.documentElement.dataset.rissole") == "done"
        tool(page, "favorite")  # all of it still works
        page.wait_for_selector(".rs-said:not(:has-text('opened'))", state="attached")
    drop(page, plain.getvalue())  # without a recipe it is a photo to search with
    page.wait_for_selector(".rs-query-name:has-text('Your upload')")
    assert (canvas(page) == before).all()


def test_a_film_and_a_contact_sheet(visit, pipe):
    page = visit.page
    page.get_by_label("One after another").check()
    page.get_by_label("2 × 2").check()
    paint(visit)
    film = download(page, "[data-do=film]")
    assert film.suggested_filename.endswith(".gif")
    with Image.open(film.path()) as image:
        assert (image.format, image.n_frames) == ("GIF", 8)
        image.seek(7)
        last = np.asarray(image.convert("RGB").resize((128, 128)), np.int16)
    assert np.abs(last - canvas(page)).mean() < 12
    page.wait_for_selector(".rs-said:has-text('Saved')")

    sheet = download(page, "[data-do=sheet]")
    assert read_recipe(sheet.path()) == save(page)
    with Image.open(sheet.path()) as image:
        assert image.height > 4 * 64


def test_a_film_is_cancelled_as_soon_as_it_can_be(visit, request):
    page = visit.page
    paint(visit)
    under_way = request.getfixturevalue("endless")
    for _ in range(2):  # what was cancelled is over: the next one is heard
        let_go = hold(page, "**/queue/join*")
        tool(page, "film")
        page.click("[data-do=quit]")  # the server has not yet heard of the film
        let_go()
        page.wait_for_selector(".rs-said:has-text('Cancelled')")
        assert page.is_enabled("[data-do=film]")
    assert eventually(lambda: not under_way)


# the library takes its time to send what a button asked for, as on a phone that is busy
SLOW = """() => {
  const send = window.fetch;
  const open = new Promise((resolve) => { window.letGo = resolve; });
  window.fetch = async (...request) => {
    if (String(request[0]).includes("queue/join")) await open;
    return send(...request);
  };
}"""
FRAMES = """async () => {
  for (let n = 0; n < 20; n += 1) await new Promise(requestAnimationFrame);
  window.letGo();
}"""


@pytest.mark.parametrize("begin", ["film", "ways"])
def test_what_is_cancelled_before_the_library_has_sent_it_is_cancelled_then(visit, request, begin):
    page = visit.page
    paint(visit)
    under_way = request.getfixturevalue("endless")
    unfold(page, "compare")
    page.evaluate(SLOW)
    page.click({"film": ".rs-share [data-do=film]", "ways": ".rs-ways"}[begin])
    page.click({"film": "[data-do=quit]", "ways": ".rs-halt"}[begin])
    page.evaluate(FRAMES)
    page.wait_for_selector({"film": "[data-do=film]:enabled", "ways": ".rs-ways:enabled"}[begin])
    assert eventually(lambda: not under_way)


def test_what_is_painted_last_is_at_hand_at_once(visit):
    page = visit.page
    paint(visit, 1)
    page.evaluate(AT_HAND)
    page.click("#rs-generate")
    painted, chosen = page.evaluate("window.next")
    assert painted == chosen


# ---- compare -------------------------------------------------------------------------------------


def unfold(page, name: str) -> None:
    page.click(f".rs-{name} summary")


def compared(page) -> list[dict]:
    page.wait_for_selector(".rs-save:not([hidden])")
    return [
        decode(b.get_attribute("data-link")) for b in page.locator(".rs-table [data-link]").all()
    ]


def test_four_ways_side_by_side(visit, pipe):
    page = visit.page
    paint(visit)
    recipe = Recipe.from_dict(save(page))
    unfold(page, "compare")
    page.click(".rs-ways")
    ways = compared(page)
    assert [{**w.to_dict(), "neighbors": []} for w in ways] == [
        {**w.to_dict(), "neighbors": []} for w in variants(recipe).values()
    ]
    notes = page.locator(".rs-shot figcaption").all_inner_texts()
    assert len(notes) == len(VARIANTS)
    assert all(re.fullmatch(r"seams \d+\.\d\d · \d+ calls · \d+\.\d s", note) for note in notes)
    assert [int(note.split("·")[1].split()[0]) for note in notes] == [3, 2, 48, 3]

    page.locator(".rs-table [data-link]").nth(1).click()  # without retrieval: on the canvas now
    page.wait_for_function("document.querySelector('#rs-guidance input').value === '0'")
    finish(visit)
    assert (canvas(page) == np.asarray(pipe(**ways[1].to_dict()).images[0])).all()


def test_two_settings_against_each_other(visit, pipe):
    page = visit.page
    unfold(page, "compare")
    page.select_option("#rs-x", "k")
    page.fill("[name=xValues]", "1, 5")
    page.select_option("#rs-y", "steps")
    page.fill("[name=yValues]", "1, 2, 3")
    page.press("[name=yValues]", "Enter")
    cells = compared(page)
    assert [(len(c.neighbors), c.num_inference_steps) for c in cells] == [
        (k, steps) for steps in (1, 2, 3) for k in (1, 5)
    ]
    assert page.locator("th[scope=col]").all_inner_texts() == ["Neighbors 1", "Neighbors 5"]
    file = download(page, ".rs-save").path()
    with Image.open(file) as image:
        assert image.height > image.width > 2 * 160
    assert read_recipe(file) == cells[0].to_dict()

    page.locator(".rs-table [data-link]").nth(3).click()
    page.wait_for_function("document.querySelectorAll('.rs-hit').length === 5")
    finish(visit)
    assert (canvas(page) == np.asarray(pipe(**cells[3].to_dict()).images[0])).all()


def test_settings_that_make_no_sense_are_refused(visit):
    page = visit.page
    unfold(page, "compare")
    page.get_by_label("One after another").check()
    visit.set_steps(100)
    for axis, values, said in (
        ("k", "1", "two different settings"),
        ("grid", "3", "grid must be 1, 2 or 4"),
        ("steps", "many", "steps takes whole numbers"),
        ("order", "", "1 to 6 different values"),
        ("seed", "1, 2, 3, 4, 5, 6", "are allowed here: choose fewer"),
    ):
        page.select_option("#rs-y", axis)
        page.fill("[name=yValues]", values)
        page.click(".rs-cross")
        page.wait_for_selector(f".rs-compare .rs-said:has-text('{said}')")
        assert page.is_enabled(".rs-cross")


def test_stop_keeps_the_compared_pictures(visit):
    page = visit.page
    visit.set_steps(2)
    unfold(page, "compare")
    page.select_option("#rs-x", "steps")
    page.fill("[name=xValues]", "1, 150, 149, 148")
    page.select_option("#rs-y", "seed")
    page.fill("[name=yValues]", "1")
    page.get_by_label("One after another").check()
    page.click(".rs-cross")
    page.wait_for_selector(".rs-table [data-link]")
    page.click(".rs-halt")
    assert page.inner_text(".rs-compare .rs-said").startswith("Stopped. 1 of 4")
    visit.settle()
    assert page.locator(".rs-table [data-link]").count() == 1
    assert download(page, ".rs-save").suggested_filename.endswith("-compare.png")
    paint(visit, 1)


def test_leaving_in_the_middle_of_a_comparison_leaves_nothing_running(visit, under_way):
    for leave in (visit.page.reload, visit.page.close):
        visit.page.wait_for_selector(".rs-hit")
        unfold(visit.page, "compare")
        visit.page.get_by_label("One after another").check()
        visit.set_steps(100)
        visit.page.click(".rs-ways")
        visit.page.wait_for_selector(".rs-compare .rs-said:has-text('Picture 1 of 4')")
        assert len(under_way) == 1
        leave()
        assert eventually(lambda: not under_way)


# ---- explain -------------------------------------------------------------------------------------


def test_the_steps_show_the_current_run(visit, pipe):
    page = visit.page
    unfold(page, "explain")
    page.wait_for_selector("[data-step=encode] .rs-latent")
    assert page.locator("[data-step=retrieve] img").count() == 1 + pipe.defaults["k"]
    assert "Generate a picture" in page.inner_text("[data-step=decode]")
    page.get_by_label("2 × 2").check()
    paint(visit, 20)
    page.wait_for_selector("[data-step=stitch] .rs-pieces")
    assert page.locator("[data-step=cut] .rs-pieces span").count() == 4
    assert page.locator("[data-step=condition] span").count() == 1 + pipe.defaults["k"]
    assert page.locator("[data-step=denoise] img").count() >= 2
    assert page.locator("[data-step=decode] img").count() == 1
    near = page.inner_text("[data-step=decode] .rs-near")
    assert near.startswith("Nearest of the pictures")
    told = TrainingPhotos.load(pipe.folder, 4).told(pipe(**save(page)).latents)
    said = "Of the {count} photos the network was trained on, the nearest is {distance} away"
    assert said.format(**told) in near
    assert page.locator(".rs-step code").all_inner_texts()[0] == "rissole/models/autoencoder.py"


def test_the_facts_of_the_model_are_in_view(visit, pipe):
    facts = visit.page.inner_text(".rs-facts")
    assert pipe.fingerprint in facts
    assert pipe.database.fingerprint in facts
    assert "24 pictures: colors" in facts


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_a_phone_shows_all_of_it_without_sideways_scrolling(visit):
    page = visit.page
    for name in ("compare", "explain"):
        unfold(page, name)
    paint(visit)
    page.click(".rs-ways")
    compared(page)
    assert visit.overflow() <= 0
    page.fill("[name=xValues]", "1, 2, 3, 4")
    page.fill("[name=yValues]", "1")
    page.click(".rs-cross")
    page.wait_for_selector("table")
    compared(page)
    assert visit.overflow() <= 0
    link(page)
    assert visit.overflow() <= 0


@pytest.mark.parametrize("visit", [{}, {**PHONE, "color_scheme": "dark"}], indirect=True)
def test_everyone_can_use_it(visit):
    """The checks of axe-core find nothing serious, in any state."""
    page, check = visit.page, visit.check_access

    for name in ("compare", "explain"):
        unfold(page, name)
    check()
    page.click(".rs-hit-pick >> nth=1")
    page.click("[data-at='2']")
    page.click(".rs-release")
    paint(visit)
    tool(page, "favorite")
    link(page)
    page.click(".rs-ways")
    compared(page)
    for view in ("won", "seams"):
        page.click(f"[data-view={view}]")
        check()
    page.fill("[name=yValues]", "1")
    page.click(".rs-cross")
    page.wait_for_selector("table")
    compared(page)
    check()
    page.focus("#rs-generate")
    page.keyboard.press("?")
    check()


SEEN = "(name) => getComputedStyle(document.querySelector(name)).outlineStyle"


@pytest.mark.parametrize("visit", [{"forced_colors": "active"}], indirect=True)
def test_nothing_vanishes_in_forced_colors_and_focus_is_seen(visit):
    page = visit.page
    paint(visit, 1)
    page.click("[data-at='6']")
    assert page.inner_text(".rs-explained").split(":")[0]
    assert "share of" in page.get_attribute("[data-at='6']", "aria-label")
    page.click(".rs-switch >> nth=2")
    page.mouse.move(2, 2)
    switches = [page.locator(".rs-switch").nth(n).screenshot() for n in (1, 2)]
    assert switches[0] != switches[1]  # on and off
    with Image.open(io.BytesIO(page.locator(".rs-weight").first.screenshot())) as bar:
        assert len(bar.convert("RGB").getcolors()) > 2
    for name in (".rs-block", "[data-view=picture]"):
        assert page.evaluate(SEEN, name) == "solid"
    around = page.locator("#rs-guidance")
    still = around.screenshot()
    page.focus("#rs-guidance input[type=range]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(SEEN, "#rs-guidance input[type=range]") == "solid"
    assert around.screenshot() != still
    visit.check_access()


def test_the_lens_shows_whom_a_block_looks_at(visit):
    page = visit.page
    paint(visit, 1)
    page.hover("[data-at='9']")
    page.wait_for_selector(".rs-lens:not([hidden])")
    thick = page.evaluate(
        """() => [...document.querySelectorAll(".rs-lens-lines path")].map((path) =>
          [Number(path.dataset.share), Number(path.getAttribute("stroke-width"))])"""
    )
    assert sum(share for share, _ in thick) == pytest.approx(1, abs=0.01)
    assert len({round(width / share) for share, width in thick}) == 1
    page.mouse.move(2, 2)
    page.wait_for_selector(".rs-lens", state="hidden")
    page.click("[data-at='9']")
    page.click(".rs-measure")
    page.wait_for_selector(".rs-measured:has-text('levels')")
    assert page.locator(".rs-effect:not(:empty)").count() == page.locator(".rs-tile").count()


def test_a_photo_that_is_refused_leaves_no_words_behind(visit, tmp_path):
    page = visit.page
    (tmp_path / "mine.png").write_bytes(b"anything")
    before = page.inner_text(".rs-query-name")
    for status in (413, 500):  # the second while the first is still on show
        answer = {"status": status, "body": f"refused with {status}"}
        page.route("**/upload*", lambda route, _, answer=answer: route.fulfill(**answer))
        with page.expect_file_chooser() as chooser:
            page.click("#rs-upload")
        chooser.value.set_files(tmp_path / "mine.png")
        page.wait_for_selector(f".toast-message-text:text-is('refused with {status}')")
        page.wait_for_selector(f".rs-query-name:has-text('{before}')")
        page.unroute("**/upload*")
    assert page.inner_text(".toast-title").strip() == "That did not work"
    assert len(visit.troubles) == 2  # the browser reports both answers
    visit.troubles.clear()
