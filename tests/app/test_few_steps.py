"""The page of a bundle that paints in few steps, in a real browser."""

import shutil
from dataclasses import replace

import pytest
from conftest import TINY, seeded
from playwright.sync_api import expect
from test_live import drawn, recipe_of
from visiting import canvas

from rissole.app.server import serve
from rissole.loading import write_bundle
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.pipeline import RissolePipeline
from rissole.storage.manifest import write_manifest

PAINTED = "html[data-rissole=done][data-kind=''] .rs-pixels[data-shown=done]"


@pytest.fixture(scope="module")
def pipe(pipe, tmp_path_factory) -> RissolePipeline:
    """The tiny pipeline with a flow map, which is shipped with two steps."""
    folder = tmp_path_factory.mktemp("bundles") / "student"
    shutil.copytree(pipe.folder / "database", folder / "database")
    config = {**pipe.config, "defaults": {**pipe.defaults, "num_inference_steps": 2}}
    student = seeded(Denoiser(replace(TINY, flow_map=True)), 1)
    write_bundle(folder, pipe.codec, student, default_scheduler(), pipe.embedding, config)
    write_manifest(folder, "student")
    return RissolePipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def address(pipe):
    app, url, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    yield url
    app.get_blocks().close()


@pytest.mark.parametrize("visit", [{"live": True}], indirect=True)
def test_what_follows_the_hand_is_the_picture_itself(visit, pipe):
    page = visit.page
    slider = page.locator("#rs-steps input[type=range]")
    assert (slider.input_value(), slider.get_attribute("max")) == ("2", "20")
    page.click("#rs-surprise")
    visit.finish()
    expect(page.locator(".rs-cost")).to_contain_text("2 network calls")

    sketch = drawn(page, lambda: page.fill("#rs-guidance input[type=range]", "2.4"))
    recipe = recipe_of(sketch, pipe)
    assert (recipe.guidance_scale, recipe.num_inference_steps, sketch["calls"]) == (2.4, 2, 2)
    expect(page.locator(".rs-words")).to_contain_text("Generate keeps it.")
    before = canvas(page)
    page.click("#rs-generate")  # what is on show is done as well: wait for another kind
    page.wait_for_selector(PAINTED, state="attached")
    assert page.input_value("#rs-seed input") == str(sketch["seed"])
    # a sketch comes with a little loss, of which noise has the most
    assert abs(canvas(page) - before).mean() < 6

    visit.set_steps(9)
    sketch = drawn(page, lambda: page.click(".rs-switch >> nth=0"))
    assert sketch["calls"] == 2
    expect(page.locator(".rs-words")).to_contain_text("Generate finishes it.")
