"""Several bundles in one app: pages, links, endpoints, and what is in memory."""

from __future__ import annotations

import os
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import TINY, seeded
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from visiting import DRAWN, Visit, assert_canvas_shows, canvas

from rissole.app.databases import Sources
from rissole.app.links import encode
from rissole.app.offer import Offer
from rissole.app.worlds import Room, World
from rissole.config import RissoleError
from rissole.loading import Parts, save_bundle
from rissole.models.denoiser import Denoiser
from rissole.pipeline import RissolePipeline
from rissole.storage.manifest import write_manifest
from rissole.storage.resolve import bundled_names


@pytest.fixture(scope="module")
def moods(pipe, databases, tmp_path_factory) -> Path:
    """A second bundle: other weights, other pictures, in two classes."""
    folder = tmp_path_factory.mktemp("worlds") / "moods"
    parts = Parts(pipe.codec, seeded(Denoiser(TINY), 2), pipe.scheduler, pipe.embedding)
    save_bundle(folder, parts, databases / "moods", {**pipe.config, "name": "moods"})
    card = folder / "README.md"
    card.write_text("---\nlicense: cc0-1.0\n---\n# moods\n")
    write_manifest(folder, "moods")
    return folder


@pytest.fixture(scope="module")
def worlds(tiny_bundle, moods) -> tuple[World, World]:
    """Both, in a room for one."""
    room = Room(1)
    return tuple(
        World(lambda folder=folder: RissolePipeline.from_pretrained(folder), room)
        for folder in (tiny_bundle, moods)
    )


@pytest.fixture(scope="module")
def server(worlds):
    """A server that offers both."""
    from rissole.app.server import serve

    first, second = worlds
    app, url, _ = serve(first, "127.0.0.1", others=[second], prevent_thread_lock=True)
    yield url
    app.get_blocks().close()


def asked(url: str, path: str) -> tuple[int, str | None]:
    """(status, where it leads) of a page, not followed."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=180)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("location")


def test_a_room_keeps_those_used_last_and_a_world_keeps_its_name(worlds):
    first, second = worlds
    assert first.pipe is first.pipe and not second.loaded
    before = first.pipe
    assert second.pipe.fingerprint == second.fingerprint != first.fingerprint
    assert not first.loaded and first.database.webp(0)  # pictures are shown without the networks
    assert first.pipe is before  # somebody still holds it: there is no second one
    assert (first.name, second.name, first.loaded, second.loaded) == ("tiny", "moods", True, False)


def test_a_world_that_was_unloaded_paints_the_same_pixels(worlds):
    first, _ = worlds
    sources = Sources(first)
    recipe = first.pipe.recipe(neighbors=[1, 2], seed=5, num_inference_steps=1)
    before = np.asarray(first.pipe(recipe).images[0])
    first.unload()
    assert not first.loaded
    assert (np.asarray(sources.start(recipe).images[0]) == before).all()


def test_what_a_visitor_has_keeps_no_second_copy_of_the_networks(worlds):
    sources = Sources(worlds[0])
    own = sources.start.with_pictures([sources.start.database.image(0)], "mine")
    key = sources.keep(own, "a visitor")
    worlds[0].unload()
    assert sources.start.denoiser is sources.find(key).denoiser


def test_two_worlds_of_one_name_are_refused(worlds):
    with pytest.raises(RissoleError, match="two bundles on offer are called 'tiny'"):
        Offer([Sources(worlds[0]), Sources(worlds[0])])


def test_each_world_has_a_page_and_a_link_leads_to_its_own(server, worlds):
    first, second = worlds
    assert asked(server, "/") == asked(server, "/moods") == (200, None)
    assert asked(server, "/tiny") == (307, "./")
    assert asked(server, "/nowhere")[0] == 404
    recipe = second.pipe.recipe(neighbors=[1], seed=5)
    link = encode(recipe)
    assert asked(server, f"/?{link}") == (307, f"moods?{link}")
    assert asked(server, f"/moods?{link}") == (200, None)
    back = encode(first.pipe.recipe(neighbors=[1], seed=5))
    assert asked(server, f"/moods?{back}") == (307, f"./?{back}")
    strange = link.replace(second.fingerprint, "0" * len(second.fingerprint))
    assert asked(server, f"/?{strange}") == (200, None)  # the page says why


def test_programs_name_a_bundle_that_is_on_offer(server, worlds):
    client, (_, second) = Client(server, verbose=False), worlds
    found = client.predict(item=3, k=2, bundle="moods", api_name="/retrieve")
    assert found["ids"] == second.pipe.retrieve(item=3, k=2).ids
    asked_for = {"neighbors": [1, 2], "steps": 1, "seed": 3, "bundle": "moods"}
    file, recipe = client.predict(**asked_for, api_name="/generate")
    assert recipe["bundle"] == second.fingerprint
    painted = second.pipe(neighbors=[1, 2], num_inference_steps=1, seed=3).images[0]
    assert (np.asarray(Image.open(file)) == np.asarray(painted)).all()
    _, again = client.predict(0, 0, image=handle_file(file), api_name="/regenerate_block")
    assert again["bundle"] == second.fingerprint
    with pytest.raises(AppError, match="No bundle called '../moods' is on offer here. There are:"):
        client.predict(item=3, bundle="../moods", api_name="/retrieve")


def test_visitors_switch_worlds_and_files_open_in_their_own(browser, server, tmp_path):
    here = Visit(browser, server)
    here.paint(1)
    mine, address = canvas(here.page), here.page.url
    with here.page.expect_download() as download:
        here.page.click("#rs-download")
    download.value.save_as(tmp_path / "mine.png")
    assert_canvas_shows(here.page, tmp_path / "mine.png")
    drawn = here.page.evaluate(DRAWN)

    other = Visit(browser, server, here.context)
    other.page.click("#rs-worlds a:has-text('moods')")
    other.page.wait_for_url("**/moods")
    other.page.wait_for_selector(".rs-hit")
    for visit in (here, other):  # the library's own menu is not shown
        assert not visit.page.locator(".nav-holder").is_visible()
    assert "CC0 1.0" in other.page.inner_text("#rs-worlds")  # license beside the picture
    other.paint(1)
    assert not np.array_equal(canvas(other.page), mine)
    # this document's own picture is done, too: what comes is waited for in the next one
    other.page.evaluate("document.documentElement.dataset.rissole = 'left'")
    with other.page.expect_file_chooser() as chooser:
        other.page.click("[data-do=file]")
    chooser.value.set_files(tmp_path / "mine.png")
    other.page.wait_for_url(lambda url: "/moods" not in url and "p=" in url)
    # a page that is being opened has no canvas, and then shows what it opens with
    same = f"wanted => document.querySelector('.rs-pixels') && ({DRAWN})() === wanted"
    other.page.wait_for_function(same, arg=drawn)

    here.go(address.replace("/?", "/moods?"))  # a link, opened in the wrong world
    here.page.wait_for_url(address)
    here.page.wait_for_function(same, arg=drawn)
    for visit in (other, here):
        visit.leave()
        assert visit.troubles == []


def resident() -> float:
    """MiB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_switches():
    """Twenty times the other shipped bundle in the only place."""
    room = Room(1)
    names = bundled_names()
    worlds = [
        World(lambda name=name: RissolePipeline.from_pretrained(name), room) for name in names
    ]
    assert len(worlds) > 1
    seen = []
    for turn in range(20):
        world = worlds[turn % len(worlds)]
        world.pipe(neighbors=[1, 2], num_inference_steps=1, seed=turn)
        assert [other.loaded for other in worlds].count(True) == 1
        seen.append(resident())
    print([round(value) for value in seen])
    even = seen[4 :: len(worlds)]  # after the same world
    assert max(even) - even[0] < 40
