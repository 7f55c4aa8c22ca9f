"""The edge: what is asked for becomes one checked recipe of this pipeline."""

from dataclasses import replace

import pytest
import torch

from rissole.config import Recipe, RissoleError
from rissole.request import draw_seed


def test_what_is_left_out_is_as_the_bundle_ships_it(pipe):
    recipe = pipe.recipe(neighbors=[1], seed=0)
    shipped = pipe.defaults
    shipped.pop("k")
    assert {name: getattr(recipe, name) for name in shipped} == shipped
    assert recipe == pipe.recipe(neighbors=[1], seed=0, order=None, guidance_scale=None)


def test_a_recipe_carries_its_origin_and_one_of_unknown_origin_is_painted(pipe):
    known = pipe.recipe(neighbors=[1], seed=0)
    assert (known.bundle, known.database) == (pipe.fingerprint, pipe.database.fingerprint)
    for unknown in (
        replace(known, database=None),
        replace(known, bundle=None, database=None),
        Recipe.from_dict({**known.to_dict(), "database": ""}),
    ):
        assert unknown.database is None
        assert pipe.recipe(unknown) == known
        assert pipe.recipe(**unknown.to_dict()) == known


def test_what_a_recipe_is_painted_upon_must_be_of_here_too_unless_it_is_at_hand(pipe):
    first = pipe(neighbors=[1], num_inference_steps=1, seed=0)
    elsewhere = replace(first.checked[0], database="f" * 12)
    upon = {"neighbors": [2], "seed": 1, "blocks": [(0, 0)]}
    with pytest.raises(RissoleError, match="another database"):
        pipe.recipe(**upon, init=elsewhere)
    kept = pipe.recipe(**upon, init=replace(first, checked=[elsewhere]))
    assert kept.init == elsewhere


def test_an_output_of_another_size_cannot_be_painted_upon(pipe):
    first = pipe(neighbors=[1], num_inference_steps=1, seed=0)
    other = replace(first, latents=torch.zeros(1, 3, 32, 32))
    upon = {"neighbors": [2], "seed": 1, "blocks": [(0, 0)]}
    recipe = pipe.recipe(**upon, init=first)
    for ask in (lambda: pipe(**upon, init=other), lambda: pipe(recipe, init=other)):
        with pytest.raises(RissoleError, match=r"latents \(3, 32, 32\), those here are \(4, "):
            ask()


@pytest.mark.parametrize("hits", [[1, 2], 1, "cat", {"neighbors": [1]}])
def test_hits_are_what_retrieve_returns(pipe, hits):
    with pytest.raises(RissoleError, match="given as neighbors="):
        pipe(hits)


def test_nothing_can_be_set_beside_a_recipe(pipe):
    recipe = pipe.recipe(neighbors=[1], seed=0)
    output = pipe(recipe)
    for beside in ({"seed": 1}, {"order": "sequential"}, {"init": output}, {"init": recipe}):
        with pytest.raises(RissoleError, match="complete"):
            pipe.recipe(recipe, **beside)


def test_the_recipe_of_what_is_repainted_is_completed_in_the_same_way(pipe):
    upon = {"neighbors": [2], "seed": 1, "blocks": [(0, 0)]}
    recipe = pipe.recipe(**upon, init={"neighbors": [1], "seed": 0})
    assert recipe.init == pipe.recipe(neighbors=[1], seed=0)


@pytest.mark.parametrize("strange", [{"defaults": {}}, {"hits": 1}, {"settings": {}}, {3: 4}])
def test_what_is_repainted_may_be_sent_by_anybody(pipe, strange):
    upon = {"neighbors": [2], "seed": 1, "blocks": [(0, 0)]}
    with pytest.raises(RissoleError, match="unknown setting"):
        pipe.recipe(**upon, init={"neighbors": [1], **strange})
    endless = {"neighbors": [1], "blocks": [(0, 0)]}
    endless["init"] = endless
    with pytest.raises(RissoleError, match="repainted 16 times"):
        pipe.recipe(**upon, init=endless)


def test_an_unknown_setting_is_named(pipe):
    with pytest.raises(RissoleError, match="unknown setting: color"):
        pipe(neighbors=[1], color="red")


def test_the_last_of_several_seeds_must_be_one(pipe):
    with pytest.raises(RissoleError, match="the last seed"):
        pipe(neighbors=[1], seed=2**64 - 2, num_images=3)


def test_a_generator_gives_its_seed_first_and_then_draws():
    generator = torch.Generator().manual_seed(4)
    assert draw_seed(generator, None) == 4
    assert draw_seed(generator, None) != 4
    assert draw_seed(None, 7) == 7


@pytest.mark.parametrize("several", [[torch.Generator()], 5, "cpu"])
def test_a_generator_is_one(pipe, several):
    with pytest.raises(RissoleError, match="generator must be one torch.Generator, not "):
        pipe(neighbors=[1], generator=several)


def test_only_a_recipe_is_checked(pipe):
    recipe = pipe.recipe(neighbors=[1], seed=0)
    pipe.check(recipe)
    with pytest.raises(RissoleError, match="only a checked recipe"):
        pipe.check(recipe.to_dict())
