"""The picture follows what a visitor changes, in a real browser."""

import pytest
from visiting import canvas, save

from rissole.app.links import decode

pytestmark = pytest.mark.parametrize("visit", [{"live": True}], indirect=True)
DRAWN_NEXT = """() => new Promise((done) => {
  document.addEventListener("rissole:drawn", ({ detail }) => done(detail), { once: true });
})"""


def drawn(page, act) -> dict:
    """The message of the sketch that something leads to."""
    page.evaluate(f"() => {{ window.next = ({DRAWN_NEXT})(); }}")
    act()
    return page.evaluate("window.next")


def recipe_of(message: dict, pipe):
    return decode(message["link"], pipe.defaults)


def test_the_picture_follows_with_the_same_seed(visit, pipe):
    page = visit.page
    page.click("#rs-surprise")  # paints
    visit.finish()
    seed = page.input_value("#rs-seed input")
    sketch = drawn(page, lambda: page.click(".rs-switch >> nth=0"))
    assert (sketch["kind"], str(sketch["seed"])) == ("sketch", seed)
    recipe = recipe_of(sketch, pipe)
    assert set(recipe.neighbors) == set(visit.hits()[1:])
    assert page.locator("#rs-download").is_hidden()
    assert page.locator(".rs-repaint").is_hidden()

    page.click("#rs-generate")  # finishes the sketch
    visit.finish()
    assert page.input_value("#rs-seed input") == seed
    assert page.evaluate("document.documentElement.dataset.kind") == ""
    before = canvas(page)
    drawn(page, lambda: page.get_by_label("2 × 2").check())
    # the sketch is done as well: only what is drawn next is the picture that was put back
    shown = drawn(page, lambda: page.click(".rs-undo"))
    assert (shown.get("kind"), shown["grid"]) == (None, 4)
    assert (canvas(page) == before).all()


def test_a_block_follows_its_own_neighbors_as_much_as_is_wished(visit, pipe):
    page, slider = visit.page, "#rs-strength input[type=range]"
    visit.paint(2)
    before = canvas(page)
    assert page.evaluate(f"document.querySelector('{slider}').closest('[inert]') !== null")
    page.click(".rs-hit-pick >> nth=0")
    sketch = drawn(page, lambda: page.click(".rs-cell >> nth=5"))
    assert recipe_of(sketch, pipe).strength == 1
    page.wait_for_selector("#rs-strength:not([inert])")
    sketch = drawn(page, lambda: page.fill(slider, "1.7"))
    recipe = recipe_of(sketch, pipe)
    assert (recipe.strength, recipe.block_neighbors) == (1.7, ((1, 1, (visit.hits()[0],)),))
    page.press(".rs-held .rs-release", "Enter")
    visit.paint_as_it_is()
    assert save(page)["strength"] == 1.7
    page.click(".rs-undo")
    page.wait_for_selector("#rs-strength[inert]")
    assert page.input_value(slider) == "1"
    page.wait_for_function("document.documentElement.dataset.kind === ''")
    assert (canvas(page) == before).all()
