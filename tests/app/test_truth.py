"""What the page says is so, and comes back as it was: its handlers without a browser."""

import gc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from rissole.app.assets import filled, texts
from rissole.app.choose import NEAR, Choosing, most_neighbors, rows_of
from rissole.app.compare import Comparing
from rissole.app.databases import Sources
from rissole.app.explain import Explaining
from rissole.app.links import encode
from rissole.app.offer import Offer
from rissole.app.pace import Ahead
from rissole.app.painting import Painting
from rissole.app.share import Sharing
from rissole.app.sketches import Sketching
from rissole.app.state import Query, Visit
from rissole.app.studio import Studio
from rissole.config import RissoleError
from rissole.cost import BY_AREA, FIXED, USUAL_NEIGHBORS
from rissole.outputs import BlockStep


@pytest.fixture(scope="module")
def studio(pipe) -> Studio:
    return Studio(Sources(pipe), texts())


def sought(studio: Studio, k: int = 3, **query) -> tuple[Visit, dict]:
    return Choosing(studio).found(Visit(), Query(**query), k)


def painted(steps) -> tuple:
    *_, last = steps
    return last


def paint(studio: Studio, visit: Visit, neighbors: dict, seed: str, order: str = "parallel"):
    settings = order, 2, 1, 1.5, 1, False, seed
    return painted(Painting(studio).paint(visit, neighbors, *settings))


def test_two_dark_pictures_are_not_nearly_the_same(pipe, monkeypatch):
    rng = np.random.default_rng(0)
    dark = [Image.fromarray(rng.integers(0, 9, (128, 128, 3), dtype=np.uint8)) for _ in range(2)]
    night = pipe.with_pictures([*dark, dark[0], pipe.database.image(3)])
    vectors = [night.database.vector(i) for i in range(2)]
    assert vectors[0] @ vectors[1] > NEAR
    assert [row["twin"] for row in rows_of(night, range(4), {})] == [None, None, 0, None]


@pytest.mark.parametrize("query", ["item", "image"])
def test_a_pinned_neighbor_keeps_a_score_whatever_is_searched_with(studio, query):
    pipe = studio.pipe
    given = {"item": {"item": 5}, "image": {"image": pipe.database.image(5)}}[query]
    far = next(i for i in range(24) if i not in (5, *pipe.retrieve(item=5, k=8).ids))
    pinned = {"hits": [{"id": far, "pin": True, "on": True}]}
    for name in pipe.retriever.encoders:
        visit, value = Choosing(studio).found(Visit(encoder=name), Query(**given), 3, pinned)
        row = next(row for row in value["hits"] if row["id"] == far)
        seen = studio.of(visit).pipe.retriever
        assert row["score"] == pytest.approx(seen.similarity(given[query], [far])[0], abs=1e-4)


def test_no_more_neighbors_are_offered_than_a_class_has(studio, databases):
    moods = studio.pipe.with_database(databases / "moods")
    assert (most_neighbors(moods), most_neighbors(moods, "calm")) == (9, 4)


def test_a_repaint_tells_its_seed(studio):
    visit, neighbors = sought(studio, item=5)
    _, _, visit, seed = paint(studio, visit, neighbors, "42")
    assert seed == gr.skip()  # who gave it may be typing the next one
    event = SimpleNamespace(run=visit.pictures[-1].message["run"], blocks=[[0, 1]])
    steps = Painting(studio).repaint(visit, neighbors, "parallel", 1, 1.5, 1, event)
    first, *_, last = (step for step in steps if isinstance(step, tuple))
    message, _, after, later = last
    assert first[-1] == message["seed"] == str(after.pictures[-1].recipe.seed) != "42"
    assert later == gr.skip()  # told once: what comes last is given to the page again at the end


def test_going_back_brings_all_that_the_picture_was_painted_with(studio):
    first, neighbors = sought(studio, item=5)
    neighbors = {**neighbors, "blocks": {"0,0": [9]}}
    neighbors["hits"][1]["on"] = False
    *_, first, _ = paint(studio, first, neighbors, "1")
    visit, others = Choosing(studio).found(first, Query(item=7), 1)  # as a preset does it
    *_, second, _ = paint(studio, visit, others, "2", "independent")
    event = SimpleNamespace(run=second.pictures[-1].message["run"])
    message, _, visit, value, k, order, grid, steps, guidance, _, seed, _ = Sharing(
        studio, Offer([studio.sources])
    ).back(second, event)
    assert message["run"] == first.pictures[-1].message["run"]
    assert (visit.query.item, value["query"]) == (5, {"item": 5})
    assert (value["hits"], value["blocks"]) == (neighbors["hits"], neighbors["blocks"])
    assert (k["value"], order, grid, seed) == (3, "parallel", 2, "1")
    assert (steps["value"], guidance["value"]) == (1, 1.5)


def test_a_file_brings_its_query_and_the_order_of_its_neighbors(studio, monkeypatch):
    visit, neighbors = sought(studio, item=5)
    neighbors = {**neighbors, "hits": neighbors["hits"][::-1]}
    message, file, *_ = paint(studio, visit, neighbors, "3")
    monkeypatch.setattr(studio, "uploaded", lambda path: path)
    shown = list(Sharing(studio, Offer([studio.sources])).restore(Visit(), file))
    value = shown[0][5]
    assert value["query"] == {"item": 5}
    assert [hit["id"] for hit in value["hits"]] == [hit["id"] for hit in neighbors["hits"]]
    assert shown[-1][0]["link"] == message["link"]  # so it is the same picture in the history


def test_influence_is_what_hiding_a_neighbor_changes(studio):
    visit, neighbors = sought(studio, item=5)
    neighbors = {**neighbors, "blocks": {"0,0": [9], "0,1": [3, 8]}}
    *_, visit, _ = paint(studio, visit, neighbors, "1")
    run = visit.pictures[-1].message["run"]
    *_, last = Explaining(studio).influence(visit, SimpleNamespace(run=run, row=0, col=1))
    told = last["influence"]
    assert (told["run"], told["at"], told["done"], set(told["levels"])) == (
        run,
        "0,1",
        True,
        {"3", "8"},
    )
    recipe = visit.pictures[-1].output.recipe
    without = studio.pipe(**{**recipe, "block_neighbors": {"0,0": [9], "0,1": [8]}})
    blocks = [
        np.asarray(one.images[0], float)[:64, 64:] for one in (without, visit.pictures[-1].output)
    ]
    assert told["levels"]["3"] == pytest.approx(np.abs(blocks[0] - blocks[1]).mean(), abs=0.06)
    assert told["levels"]["3"] > 0
    *_, alone = Explaining(studio).influence(visit, SimpleNamespace(run=run, row=0, col=0))
    assert alone["influence"]["levels"] == {}  # there is no picture without an only neighbor


@pytest.fixture
def evaluated(pipe):
    """What each evaluation of the network costs as it goes on, counted as `cost.work_of` does."""
    costs, config = [], pipe.denoiser.config

    def count(_, given, __):
        _, _, visible, index = given
        window = 1 / visible.shape[1] + 2 * config.halo / config.latent_size
        neighbors = 0.75 + 0.25 * visible.shape[-1] / USUAL_NEIGHBORS
        costs.append((FIXED + BY_AREA * index.shape[1] * window**2) * neighbors)

    hook = pipe.denoiser.register_forward_hook(count)
    yield costs
    hook.remove()


@pytest.fixture
def repainted(studio) -> Visit:
    """A visit with a picture and two repaints upon it."""
    pipe, settings = studio.pipe, {"grid": 2, "guidance_scale": 1, "num_inference_steps": 2}
    base = pipe.recipe(neighbors=[1, 2, 3], order="sequential", seed=0, **settings)
    first = pipe.recipe(neighbors=[4, 5], seed=1, init=base, blocks=[(0, 0)], **settings)
    top = pipe.recipe(neighbors=[6, 7], seed=2, init=first, blocks=[(1, 1)], **settings)
    event = SimpleNamespace(link=encode(top))
    *_, shown = Sharing(studio, Offer([studio.sources])).recall(Visit(), event)
    return shown[2]


def page_generators(studio: Studio, visit: Visit):
    """Every handler of the page that paints, as (name, its steps)."""
    shelf, last = Sharing(studio, Offer([studio.sources])), visit.pictures[-1]
    run, link = last.message["run"], encode(last.recipe)
    chosen = visit.neighbors or {"hits": [{"id": i, "on": True} for i in (1, 2, 3)]}
    settings, painting = ("sequential", 2, 2, 1), Painting(studio)
    yield "paint", painting.paint(visit, chosen, *settings, 1, True, None)
    again = SimpleNamespace(run=run, blocks=[[0, 1]])
    yield "repaint", painting.repaint(visit, chosen, "parallel", 2, 1, 1, again)
    wish = {"number": 1, "neighbors": [1, 2], "order": "parallel", "grid": 2, "steps": 2,
            "guidance": 1, "seed": 3}  # fmt: skip
    request = SimpleNamespace(session_hash="me")
    yield "sketch", Sketching(studio).sketch(visit, SimpleNamespace(wish=wish), request)
    yield "ways", Comparing(studio).ways(visit, chosen, *settings, 3, 1)
    axes = {"x": {"setting": "k", "values": "1,2"}, "y": {"setting": "steps", "values": "1,2"}}
    yield "cross", Comparing(studio).cross(visit, chosen, *settings, 3, 1, SimpleNamespace(**axes))
    for name in ("recall", "film", "sheet"):
        yield name, getattr(shelf, name)(Visit(), SimpleNamespace(link=link))
    for kind in ("npz", "json", "csv"):
        yield kind, shelf.run(Visit(), SimpleNamespace(link=link, kind=kind))
    above = replace(visit, pictures=visit.pictures[-1:])
    for name, seen in (("influence", visit), ("influence alone", above)):
        for row, col in ((1, 1), (0, 0), (0, 1)):  # of the last layer, and of those beneath
            event = SimpleNamespace(run=run, row=row, col=col)
            yield f"{name} {row},{col}", Explaining(studio).influence(seen, event)


def test_a_step_of_the_page_is_one_of_the_network_and_all_are_announced(
    studio, repainted, evaluated
):
    for name, steps in page_generators(studio, repainted):
        announced, before = 0.0, 0
        evaluated.clear()
        for shown in steps:
            assert len(evaluated) - before <= 1, name
            announced = shown.work if isinstance(shown, Ahead) else announced
            assert sum(evaluated) <= announced + 1e-6, name
            before = len(evaluated)
        assert before > 1, name


def test_a_picture_at_hand_is_not_painted_again_to_tell_an_influence(studio, repainted, evaluated):
    above = replace(repainted, pictures=repainted.pictures[-1:])
    event, calls = SimpleNamespace(row=1, col=1), []
    for visit in (repainted, above):
        evaluated.clear()
        *_, told = Explaining(studio).influence(visit, event)
        calls.append((len(evaluated), told["influence"]["levels"]))
    assert calls[0][1] == calls[1][1] != {}
    assert [count for count, _ in calls] == [3 * 2, 3 * 2 + 4 * 2 + 2]


def test_how_near_a_picture_is_to_the_nearest_of_the_database(studio):
    visit, neighbors = sought(studio, item=5)
    message, _, visit, _ = paint(studio, visit, neighbors, "1")
    told = Explaining(studio).look(visit, SimpleNamespace(run=message["run"]))["nearest"]
    found = studio.pipe.retrieve(image=visit.pictures[-1].output.images[0], k=1)
    assert (told["item"], told["alike"]) == (found.ids[0], round(found.scores[0], 2))
    nearest = [studio.pipe.retrieve(item=item, k=1).scores[0] for item in range(24)]
    assert told["usual"] == pytest.approx(np.median(nearest), abs=0.006)
    assert Explaining(studio).look(visit, SimpleNamespace(run=None))["nearest"] is None


def test_a_link_gives_a_program_and_its_steps(studio):
    visit, neighbors = sought(studio, item=5)
    message, *_ = paint(studio, visit, neighbors, "2")
    event = SimpleNamespace(link=message["link"], kind="csv")
    assert "seed=2," in Sharing(studio, Offer([studio.sources])).python(visit, event)["code"]
    *_, told = Sharing(studio, Offer([studio.sources])).run(visit, event)
    lines = Path(told["file"]).read_text().splitlines()
    assert lines[0] == "row,column,neighbor,share,similarity"
    assert len(lines) == 1 + 4 * 3


def test_of_a_run_the_steps_of_the_last_layer_are_kept(studio, repainted):
    event = SimpleNamespace(link=encode(repainted.pictures[-1].recipe), kind="npz")
    *_, told = Sharing(studio, Offer([studio.sources])).run(Visit(), event)
    with np.load(told["file"]) as arrays:  # noqa: TID251 - ours, and no pickle
        latents = arrays["latents"]
    assert len(latents) == 2
    assert (latents[-1] == repainted.pictures[-1].output.latents[0].numpy()).all()


def test_of_a_run_the_steps_beneath_are_not_held(studio):
    settings = {"guidance_scale": 1, "grid": 2}
    base = studio.pipe.recipe(
        neighbors=[1, 2], order="sequential", num_inference_steps=20, seed=0, **settings
    )
    top = studio.pipe.recipe(
        neighbors=[1], num_inference_steps=1, seed=1, init=base, blocks=[(0, 0)], **settings
    )
    steps = Sharing(studio, Offer([studio.sources]))._recorded(top, Visit(), ".npz")
    held = [sum(type(one) is BlockStep for one in gc.get_objects()) for _ in steps]
    assert len(held) > 4 * 20
    assert max(held) - held[0] <= 2


def test_a_run_of_too_many_steps_is_refused_before_it_is_painted(studio, evaluated):
    settings = {"order": "sequential", "num_inference_steps": 200, "guidance_scale": 1, "seed": 0}
    link = encode(studio.pipe.recipe(neighbors=range(16), **settings))
    shelf = Sharing(studio, Offer([studio.sources]))
    for kind in ("npz", "json"):
        with pytest.raises(gr.Error, match="numbers, and 2,900,000 are allowed"):
            list(shelf.run(Visit(), SimpleNamespace(link=link, kind=kind)))
    steps = shelf.run(Visit(), SimpleNamespace(link=link, kind="csv"))  # which keeps none
    assert {"job": "csv", "done": 0} in (next(steps), next(steps))
    assert not evaluated


def test_seeds_keep_every_digit(studio):
    visit, neighbors = sought(studio, item=5)
    seed = str(2**53 + 1)
    message, *_, visit, _ = paint(studio, visit, neighbors, seed)
    assert message["seed"] == str(visit.pictures[-1].recipe.seed) == seed
    for wrong in ("-1", "1.5", "many"):
        with pytest.raises(RissoleError, match="seed must be"):
            Painting(studio).wanted(visit, neighbors, "parallel", 2, 1, 1.5, wrong)


def test_a_text_takes_the_word_of_its_number():
    text = "{calls} {calls:call|calls}, {name}"
    assert filled(text, calls=1, name="a") == "1 call, a"
    assert filled(text, calls=2, name="{calls}") == "2 calls, {calls}"
