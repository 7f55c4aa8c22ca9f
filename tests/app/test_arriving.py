"""What comes to the page from elsewhere: photos dropped and pasted, links with a place in them."""

import base64
import io

import numpy as np
import pytest
from visiting import canvas

from rissole.app.links import decode
from rissole.data.images import save_png

BRING = """([kind, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "brought.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { ...options, clipboardData: carried })
    : new DragEvent("drop", { ...options, dataTransfer: carried });
  document.querySelector(kind === "paste" ? "body" : "#rs-header").dispatchEvent(event);
}"""


def png(image, recipe: dict | None = None) -> str:
    file = io.BytesIO()
    image.save(file, "PNG") if recipe is None else save_png(image, file, recipe)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_brought_anywhere_becomes_the_query(visit, pipe, kind):
    page = visit.page
    page.evaluate(BRING, [kind, png(pipe.database.image(4))])
    page.wait_for_selector(".rs-query-name:has-text('Your upload')")
    assert visit.hits()[0] == 4
    # one that is not square is cut first, and nothing happens to who thinks better of it
    before = visit.hits()
    wide = pipe.database.image(9).resize((256, 128))
    page.evaluate(BRING, [kind, png(wide)])
    page.click(".rs-crop-dialog button:has-text('Cancel')")
    page.wait_for_selector(".rs-crop-dialog", state="detached")
    assert visit.hits() == before
    page.evaluate(BRING, [kind, png(wide)])
    page.click(".rs-crop-use")
    page.wait_for_function(
        "(before) => before !== document.querySelector('.rs-hit').dataset.id", arg=str(before[0])
    )


def test_a_pasted_picture_that_was_painted_here_is_opened(visit, pipe):
    out = pipe(neighbors=[3, 17, 5], num_inference_steps=2, seed=6)
    visit.page.evaluate(BRING, ["paste", png(out.images[0], out.recipe)])
    visit.finish()
    assert (canvas(visit.page) == np.asarray(out.images[0])).all()
    assert sorted(visit.hits()) == [3, 5, 17]


def test_the_address_bar_holds_what_is_on_show(visit, pipe):
    page = visit.page
    visit.paint(1)
    first = page.url
    visit.paint(2)
    assert page.url != first
    recipe = decode(page.url, pipe.defaults)
    assert recipe.num_inference_steps == 2
    shown = canvas(page)
    visit.go(page.url)  # as a reload, or a bookmark
    visit.finish()
    assert (canvas(page) == shown).all()


def test_a_link_leads_to_a_block_and_a_view(visit):
    page = visit.page
    visit.paint(1)
    page.click("[data-at='6']")
    page.click("[data-view=won]")
    page.click(".rs-share [data-do=link]")
    page.wait_for_selector(".rs-said:has-text('ink')")
    link = page.input_value(".rs-link")
    assert link.endswith("#at=1,2&view=won")
    visit.go(link)
    visit.finish()
    page.wait_for_selector("[data-view=won][aria-pressed=true]")
    assert page.inner_text(".rs-focus-name") == "Row 2, column 3"
    page.click("[data-at='9']")
    assert page.url.endswith("#at=2,1&view=won")  # the address bar follows
    visit.go(link.partition("#")[0] + "#at=9,9&view=nothing")  # what is not there is left out
    visit.finish()
    assert page.get_attribute("[data-view=picture]", "aria-pressed") == "true"


def test_what_cannot_be_painted_leaves_the_picture_there(visit):
    page = visit.page
    visit.paint(1)
    before = canvas(page)
    page.fill("#rs-seed input", "-5")
    page.click("#rs-generate")
    visit.wait_for("error")
    page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")
    assert "seed must be" in visit.words()
    assert (canvas(page) == before).all()
    page.fill("#rs-seed input", "-1")  # as other tools ask for any
    assert page.is_checked("#rs-new-seed input")
    visit.paint(1)
    assert int(page.input_value("#rs-seed input")) >= 0


def test_a_preset_looks_pressed_as_long_as_it_holds(visit):
    page = visit.page
    page.click("#rs-preset-sequential")
    visit.finish()
    pressed = page.locator("#rs-presets [aria-pressed=true]")
    assert pressed.all_inner_texts() == ["One after another"]
    page.click("#rs-generate")  # another seed is the same preset
    visit.finish()
    assert pressed.count() == 1
    page.click(".rs-switch >> nth=0")
    assert pressed.count() == 0


def test_a_query_by_its_number(visit, pipe):
    page = visit.page
    page.fill(".rs-number input", "19")
    page.press(".rs-number input", "Enter")
    page.wait_for_selector(".rs-query-name:has-text('Picture 19 ')")
    assert visit.hits() == pipe.retrieve(item=19, k=4).ids
    page.fill(".rs-number input", "24")  # the browser says that there are 24
    page.press(".rs-number input", "Enter")
    assert page.evaluate("!document.querySelector('.rs-number input').validity.valid")
    assert page.inner_text(".rs-query-name").startswith("Picture 19 ")


def test_encoders_side_by_side(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    page.click(".rs-sides summary")
    page.wait_for_selector(".rs-sides li")
    names = list(pipe.retriever.encoders)
    assert page.locator(".rs-sides h3").count() == len(names)
    rows = page.locator(".rs-sides ul").all()
    shown = [
        [int(one.get_attribute("data-id")) for one in row.locator("[data-id]").all()]
        for row in rows
    ]
    wanted = [pipe.retrieve(item=5, k=4, encoder=name).ids for name in names]
    assert shown[0] == visit.hits()
    assert sorted(shown) == sorted(wanted)
    page.click(".rs-sides .rs-other-way >> nth=0")
    assert len(visit.hits()) == 5
