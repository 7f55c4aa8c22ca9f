"""What an owner may say on the page, and what is seen of it before any script runs."""

import io
import re
import shutil

import httpx
import pytest
from PIL import Image
from visiting import SETTLED, Visit, patient

from rissole.app.__main__ import parse
from rissole.app.face import Face
from rissole.app.front import CARD
from rissole.app.server import serve
from rissole.app.showcase import add_showcase
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline

SAID = ["--title", "Cats & <co>", "--lead", 'They "paint".', "--examples", "5=A calm one, 7"]


SHIFTS = """(() => {
  window.shift = 0; // what moves without having been asked to
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput } of list.getEntries()) {
      if (!hadRecentInput) window.shift += value;
    }
  }).observe({ type: "layout-shift", buffered: true });
})()"""


@pytest.fixture(scope="module")
def faced(tiny_bundle, tmp_path_factory):
    """Where a page with a face of its own and a showcase listens."""
    folder = tmp_path_factory.mktemp("faced") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    add_showcase(folder, item=5, seed=3)
    pipe = RissolePipeline.from_pretrained(folder)
    face = Face.given(parse([*SAID, "--frames", "example.org"]))
    app, url, _ = serve(pipe, "127.0.0.1", face=face, prevent_thread_lock=True)
    yield url
    app.get_blocks().close()


def tags(page: str) -> dict[str, str]:
    found = re.findall(r'<meta (?:property|name)="([\w:]+)" content="([^"]*)">', page)
    assert len(dict(found)) == len(found)  # none of the library's are left beside
    return dict(found)


def test_a_link_unfolds_with_title_line_and_picture(faced):
    answer = httpx.get(faced)
    told = tags(answer.text)
    assert told["og:title"] == "Cats &amp; &lt;co&gt;"
    assert told["description"] == told["og:description"] == "They &quot;paint&quot;."
    assert told["og:image"] == f"{faced}card.jpg"
    assert "Gradio" not in "".join(told.values())
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].endswith("example.org")
    with Image.open(io.BytesIO(httpx.get(told["og:image"]).content)) as card:
        assert (card.format, card.size) == ("JPEG", CARD)
    icon = httpx.get(f"{faced}favicon.ico")
    assert icon.headers["content-type"].startswith("image/svg")
    assert "--rs-poster: url" in answer.text
    assert "--rs-poster: url" not in httpx.get(f"{faced}?p=n1~s0").text  # it paints its own


def test_a_page_without_a_showcase_has_no_card(address):
    told = tags(httpx.get(address).text)
    assert told["og:title"] == "RISSOLE"
    assert "og:image" not in told
    assert httpx.get(f"{address}card.jpg").status_code == 404


def test_the_first_picture_does_not_wait_for_scripts(browser, faced):
    context = patient(browser.new_context(java_script_enabled=False))
    page = context.new_page()
    page.goto(faced)
    shown = page.evaluate("getComputedStyle(document.body, '::after').backgroundImage")
    assert shown.startswith('url("data:image/webp')
    context.close()


def test_nothing_moves_while_the_page_loads_and_paints(browser, faced):
    context = patient(browser.new_context(viewport={"width": 1400, "height": 900}))
    context.add_init_script(SHIFTS)
    visit = Visit(browser, faced, context)
    visit.page.wait_for_selector(".rs-pixels[data-shown=done]", state="attached")
    box = visit.page.locator(".rs-picture").bounding_box()
    poster = visit.page.evaluate(
        """() => { const { left, top, width } = getComputedStyle(document.body, "::after");
          return [left, top, width].map(parseFloat); }"""
    )
    # where the picture of the first paint was
    assert poster == pytest.approx([box["x"], box["y"], box["width"]], abs=30)
    visit.page.evaluate(SETTLED)
    assert visit.page.evaluate("window.shift") < 0.1
    visit.page.evaluate("window.shift = 0")
    visit.paint_as_it_is()
    assert visit.page.evaluate("window.shift") < 0.1
    visit.leave()
    context.close()


def test_an_owner_names_the_page_and_what_to_begin_with(browser, faced):
    visit = Visit(browser, faced)
    page = visit.page
    assert page.title() == "Cats & <co>"
    assert page.inner_text("h1") == "Cats & <co>"
    assert page.inner_text("#rs-header p >> nth=0") == 'They "paint".'
    assert page.locator("#rs-presets button").all_inner_texts() == ["A calm one", "Picture 7"]
    page.click("#rs-preset-example-7")
    page.wait_for_selector(".rs-query-name:has-text('Picture 7 ')")
    page.wait_for_selector("html[data-rissole=done][data-kind='']", state="attached")
    visit.leave()
    assert visit.troubles == []


def test_a_frame_shows_the_canvas_and_the_neighbors_alone(browser, faced):
    visit = Visit(browser, faced, width=760, height=720)
    page = visit.page
    visit.go(f"{faced}?embed=1")
    page.wait_for_selector(".rs-hit")
    page.evaluate(SETTLED)
    for name in ("#rs-header h1", "#rs-more", "#rs-footer", "#rs-settings", "#rs-gallery"):
        assert page.locator(name).is_hidden()
    for name in (".rs-picture", ".rs-hits", "#rs-generate"):
        assert page.locator(name).is_visible()
    visit.paint_as_it_is()
    assert "embed=1" in page.url
    visit.check_access()
    visit.leave()
    assert visit.troubles == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["--examples", "five"], "numbers of gallery pictures"),
        (["--frames", "a b"], "sites such as"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(said, why):
    with pytest.raises(RissoleError, match=why):
        Face.given(parse(said))
