"""Other databases, classes, own photos and words, as visitors meet them."""

import shutil

import gradio as gr
import httpx
import numpy as np
import pytest
from calling import eventually, result_of
from conftest import picture
from visiting import PHONE, Visit, canvas, save

from rissole.app.assets import texts
from rissole.app.databases import Sources
from rissole.app.links import decode
from rissole.app.memory import Remembering
from rissole.app.offer import Offer
from rissole.app.share import Sharing
from rissole.app.state import Visit as Visit_
from rissole.app.studio import Studio
from rissole.config import RissoleError
from rissole.storage.manifest import write_manifest


@pytest.fixture(scope="module")
def moods(pipe, databases):
    """The tiny pipeline with the other database."""
    return pipe.with_database(databases / "moods")


@pytest.fixture
def photos(tmp_path):
    """Three photos, large and small, and two files that are none."""
    for n, size in enumerate([(900, 700), (300, 400), (128, 128)]):
        picture(200 + n).resize(size).save(tmp_path / f"mine{n}.png")
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than this")
    (tmp_path / "notes.txt").write_text("not a picture")
    return sorted(tmp_path.iterdir())


def look_at(page, name: str) -> None:
    page.select_option("[data-of=database] select", label=name)
    page.wait_for_selector(".rs-memory .rs-said:has-text('Looking')", state="detached")
    page.wait_for_selector("[data-of=database] select:enabled")


def query(page) -> int:
    return int(page.inner_text(".rs-query-name").split()[1])


def seen(page, selector: str = ".rs-hit-pick img") -> None:
    """All these pictures have arrived."""
    page.wait_for_function(
        "(s) => [...document.querySelectorAll(s)].every((i) => i.complete && i.naturalWidth > 0)",
        arg=selector,
    )


# ---- databases and classes -----------------------------------------------------------------------


def test_another_database_with_its_classes(visit, moods, browser, address):
    page = visit.page
    visit.paint()
    assert page.locator("[data-of=label]").is_hidden()
    look_at(page, "moods (10)")
    assert page.evaluate("document.documentElement.dataset.rissole") == "idle"
    assert page.input_value("#rs-k input[type=number]") == "4"
    page.wait_for_selector("#rs-k input[type=range][max='9']")
    hits = moods.retrieve(item=query(page), k=4)
    assert visit.hits() == hits.ids
    assert page.locator(".rs-class").all_inner_texts() == hits.labels
    assert page.locator(".rs-thumb").count() == 10
    assert page.get_attribute("[data-item='3']", "aria-label") == "Picture 3, wild"
    assert "10 pictures: moods" in page.inner_text(".rs-facts")
    seen(page)

    page.select_option("[data-of=label] select", "wild")
    page.wait_for_function("document.querySelectorAll('.rs-thumb').length === 5")
    page.wait_for_selector("[data-of=label] select:enabled")
    assert set(page.locator(".rs-class").all_inner_texts()) == {"wild"}
    page.focus(".rs-thumb[tabindex='0']")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rs-query-name:has-text('Picture 9 ')")
    assert visit.hits() == moods.retrieve(item=9, k=4, label="wild").ids
    visit.paint()
    recipe = save(page)
    assert recipe["database"] == moods.database.fingerprint
    assert (canvas(page) == np.asarray(moods(**recipe).images[0])).all()
    seen(page)

    other = Visit(browser, address)  # nobody else has noticed
    assert other.page.locator(".rs-thumb").count() > 10
    link = page.locator(".rs-kept").first.get_attribute("data-link")
    assert decode(link).database == moods.database.fingerprint
    other.go(f"{address}?{link}")  # a link brings its database along
    other.finish()
    assert (canvas(other.page) == canvas(page)).all()
    other.page.wait_for_function("document.querySelectorAll('.rs-thumb').length === 10")
    other.leave()
    assert other.troubles == []


def test_pictures_are_compared_by_what_one_chooses(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    page.select_option(".rs-neighbors select", "latent-corner")
    wanted = pipe.retrieve(item=5, k=4, encoder="latent-corner")
    assert wanted.ids != pipe.retrieve(item=5, k=4).ids
    page.wait_for_selector(f".rs-score:has-text('{wanted.scores[0]:.2f}')")
    assert visit.hits() == wanted.ids
    assert "--clip" in page.inner_text("#rs-no-text")  # how to get words is one line
    assert page.locator("#rs-text").count() == 0


# ---- own photos ----------------------------------------------------------------------------------


def test_own_photos_for_this_visit_only(visit, photos, browser, address):
    page = visit.page
    visit.paint()
    page.set_input_files(".rs-files", photos)
    page.wait_for_selector(".rs-return:visible")
    assert page.locator(".rs-thumb").count() == 3
    page.wait_for_selector("#rs-k input[type=range][max='2']")
    page.click(".rs-skipped summary")
    skipped = sorted(page.locator(".rs-skipped li").all_inner_texts())
    assert [line.split()[0] for line in skipped] == ["half.jpg", "notes.txt"]
    assert "Only you see your photos" in page.inner_text(".rs-memory .rs-said")
    assert page.inner_text(".rs-query-name").startswith("Photo ")
    visit.check_access()
    visit.paint()
    seen(page)
    assert len(save(page)["neighbors"]) == 2
    assert "Painted from your own photos" in page.inner_text(".rs-picked")
    for name in ("favorite", "link"):
        assert page.is_disabled(f".rs-share [data-do={name}]")
    page.click("[data-at='2']")
    page.keyboard.press("r")
    page.wait_for_selector(".rs-words:has-text('Row 1, column 3 repainted')")

    link = page.locator(".rs-kept").first.get_attribute("data-link")
    other = Visit(browser, address)
    other.go(f"{address}?{link}")
    other.wait_for("error")
    assert "somebody's own photos" in other.words()
    assert other.page.locator("[data-of=database] option").count() == 2
    other.leave()

    thumb = page.evaluate("document.querySelector('.rs-hit-pick img').src")
    answer = httpx.get(thumb)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
    page.click(".rs-return")
    page.wait_for_selector(".rs-about, [data-of=database]")
    page.wait_for_function("document.querySelectorAll('.rs-thumb').length > 3")
    look_at(page, "Your photos (3)")  # and again, without sending them
    page.evaluate("document.documentElement.dataset.rissole = 'asked'")
    page.locator(".rs-kept").first.dblclick()  # here it can be opened
    visit.wait_for("done")
    page.close()
    assert eventually(lambda: httpx.get(thumb).status_code == 404)


def test_photos_that_are_none_leave_all_as_it_was(visit, photos):
    page = visit.page
    before = visit.hits()
    page.set_input_files(".rs-files", photos[-1:])
    page.wait_for_selector(".toast-body:has-text('notes.txt is text, not a picture')")
    page.wait_for_selector(".rs-use:enabled")
    assert visit.hits() == before
    assert page.locator(".rs-return").is_hidden()


@pytest.mark.parametrize("visit", [{**PHONE, "color_scheme": "dark"}], indirect=True)
def test_one_photo_on_a_phone(visit, photos):
    page = visit.page
    page.set_input_files(".rs-files", photos[2])
    page.wait_for_selector(".rs-return:visible")
    assert visit.hits() == [0]  # its own neighbor: there is no other
    assert visit.overflow() <= 0
    visit.set_steps(2)
    page.tap("#rs-generate")
    visit.wait_for("done")
    page.tap(".rs-return")
    page.wait_for_function("document.querySelectorAll('.rs-hit').length > 1")
    visit.check_access()


def test_an_upload_among_the_neighbors(visit, photos):
    page, before = visit.page, visit.hits()
    with page.expect_file_chooser() as chooser:
        page.click("#rs-add")
    chooser.value.set_files(photos[2])
    page.wait_for_function(
        "(n) => document.querySelectorAll('.rs-hit').length > n", arg=len(before)
    )
    assert visit.hits() == [*before, 24]
    page.wait_for_selector(".rs-gallery-count:has-text('24 pictures and 1 of yours')")
    seen(page)
    visit.paint()
    recipe = save(page)
    assert recipe["neighbors"] == [*before, 24]
    assert page.locator(".rs-tile").count() == len(before) + 1
    page.click(".rs-hit-pick >> nth=-1")  # for one block alone
    page.click("[data-at='6']")
    page.click(".rs-release")
    page.click("[data-at='6']")
    page.keyboard.press("r")
    page.wait_for_selector(".rs-words:has-text('Row 2, column 3 repainted')")
    visit.finish()
    again = save(page)
    assert again["block_neighbors"] == {"1,2": [24]}
    assert "your own photos" in page.inner_text(".rs-picked")
    shown = canvas(page)
    page.evaluate("document.documentElement.dataset.rissole = 'asked'")
    page.locator(".rs-kept").first.dblclick()  # the recipe holds all of it
    visit.finish()
    assert (canvas(page) == shown).all()
    page.click(".rs-hit-pick[data-id='24']")
    page.click(".rs-tool-search")
    page.wait_for_selector(".rs-query-name:has-text('24')")


def test_what_a_browser_says_about_photos_is_not_believed(pipe, databases, tmp_path):
    sources = Sources(pipe, [databases])
    actions = Remembering(Studio(sources, texts()))
    outside = tmp_path / "secret.png"
    picture(1).save(outside)
    for files in ([str(outside)], ["/etc/hostname", None, "\0"], [], "x", None):
        with pytest.raises(gr.Error, match="None of the files is a photo"):
            result_of(actions.photos(Visit_(), 4, gr.EventData(None, {"files": files}), None))
    assert outside.exists()
    for key in ("moods", "../moods", None, 3):
        with pytest.raises(gr.Error, match="not here any more"):
            result_of(actions.choose(Visit_(), 4, gr.EventData(None, {"key": key})))
    with pytest.raises(gr.Error, match="no class 'blue'"):
        actions.filter(Visit_(), 4, None, gr.EventData(None, {"label": "blue"}))
    with pytest.raises(gr.Error, match="no CLIP model"):
        result_of(actions.compare_by(Visit_(), 4, None, gr.EventData(None, {"encoder": "clip"})))


def test_databases_that_can_be_chosen(pipe, databases, tmp_path):
    labels = [entry.label for entry in Sources(pipe, [databases]).entries()]
    assert labels == ["colors", "moods"]
    started = Sources(pipe.with_database(databases / "moods"))  # as with --database
    assert [entry.label for entry in started.entries()] == ["moods", "colors"]
    assert started.find(pipe.database.fingerprint).database.image(3) == pipe.database.image(3)
    shutil.copytree(databases / "moods", tmp_path / "strange")
    write_manifest(tmp_path / "strange", "strange", encoder="of another bundle")
    assert len(Sources(pipe, [tmp_path]).entries()) == 1


def test_the_menu_calls_an_encoder_as_it_calls_itself(pipe, monkeypatch):
    monkeypatch.setattr(type(pipe.retriever.encoders["latent"]), "label", "Alike from afar")
    shown = Remembering(Studio(Sources(pipe), texts())).show(Visit_())
    assert shown["encoders"][0] == {"name": "latent", "label": "Alike from afar"}


def test_a_link_without_a_database_is_for_the_one_that_is_open(pipe, databases):
    sources = Sources(pipe, [databases])
    here, moods = [entry.key for entry in sources.entries()]
    for source in (None, moods):
        link = {"link": f"?b={pipe.fingerprint}&p=n1.2~t1~s0", "fresh": False}
        sharing = Sharing(Studio(sources, texts()), Offer([sources]))
        *_, last = sharing.recall(Visit_(source=source), gr.EventData(None, link))
        assert last[2].pictures[-1].recipe.database == (source or here)


def test_visitors_databases_are_forgotten(pipe):
    sources = Sources(pipe)
    keys = [sources.keep(pipe, visit) for visit in "abb"]
    sources.household.left("b")
    assert [sources.find(key) is None for key in keys] == [False, True, True]


# ---- words ---------------------------------------------------------------------------------------


def test_words_are_understood_where_their_encoder_is(browser, reading):
    from rissole.app.server import serve

    app, url, _ = serve(reading, "127.0.0.1", prevent_thread_lock=True)
    try:
        visit = Visit(browser, url)
        page = visit.page
        assert page.locator("#rs-no-text").count() == 0
        assert page.locator("[data-of=database]").is_hidden()  # there is one only
        page.fill("#rs-text textarea, #rs-text input", "a ginger cat")
        page.press("#rs-text textarea, #rs-text input", "Enter")
        page.wait_for_selector(".rs-query-name:has-text('a ginger cat')")
        assert visit.hits() == reading.retrieve(text="a ginger cat", k=4).ids
        visit.leave()
        assert visit.troubles == []
    finally:
        app.get_blocks().close()


def test_words_are_refused_where_their_vectors_would_take_long(reading, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path))
    studio = Studio(Sources(reading), texts())
    assert studio.query_words(" a cat ") == "a cat"
    monkeypatch.setattr("rissole.app.databases.QUICK", 5)
    with pytest.raises(RissoleError, match="too long for so many pictures"):
        studio.query_words("a cat")
    for odd in (None, "  ", 3):
        with pytest.raises(RissoleError):
            studio.query_words(odd)
