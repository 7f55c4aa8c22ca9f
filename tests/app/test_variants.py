"""Recipes beside recipes, and what each of them took."""

import numpy as np
import pytest

from rissole.app.variants import MAX_VALUES, VARIANTS, Axis, cross, run, seams, variants
from rissole.config import Recipe, RissoleError


@pytest.fixture
def recipe(pipe):
    return Recipe.from_dict(pipe(neighbors=[3, 17, 5], num_inference_steps=2, seed=7).recipe)


def test_variants_differ_in_one_thing_each(recipe):
    found = variants(recipe)
    assert tuple(found) == VARIANTS
    assert found["parallel"] == recipe
    for name, changed in (("published", {"order"}), ("alone", {"guidance_scale"})):
        before, after = recipe.to_dict(), found[name].to_dict()
        assert {key for key in before if before[key] != after[key]} == changed
    again = Recipe.from_dict({**recipe.to_dict(), "init": recipe, "blocks": [(0, 0)], "seed": 1})
    assert variants(again) == found


def test_without_neighbors_the_neighbors_have_no_effect(pipe, recipe):
    alone = variants(recipe)["alone"]
    other = pipe(**{**alone.to_dict(), "neighbors": [1, 2]})
    out = pipe(**alone.to_dict())
    assert (np.asarray(out.images[0]) == np.asarray(other.images[0])).all()
    assert out.network_calls == recipe.num_inference_steps  # there is nothing to guide away from
    assert not out.attention.any()


def test_run_measures_every_picture(pipe, recipe):
    ways = variants(recipe)
    stages = list(run(pipe, list(ways.values())))
    results = [result for _, _, result in stages if result is not None]
    assert [result.recipe for result in results] == list(ways.values())
    assert [result.network_calls for result in results] == [3, 2, 16 * 3, 3]
    for result in results:
        assert result.seconds > 0
        assert result.seam_ratio == seams(result.image, 4) > 0
        same = pipe(**result.recipe.to_dict()).images[0]
        assert (np.asarray(same) == np.asarray(result.image)).all()
    shares = [done for index, done, _ in stages if index == 2]
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (16 * 2, 1.0)


def test_one_block_has_no_seams(pipe):
    assert seams(pipe.database.image(0), 1) is None


def test_cross_sets_both_settings(recipe):
    x, y = Axis.parse("k", "1, 3"), Axis.parse("guidance", "1,1.5, 2")
    grid = cross(recipe, x, y)
    assert [[(len(r.neighbors), r.guidance_scale) for r in row] for row in grid] == [
        [(1, g), (3, g)] for g in (1.0, 1.5, 2.0)
    ]
    assert {r.seed for row in grid for r in row} == {7}
    more = cross(recipe, Axis.parse("k", "5"), y, candidates=[8, 6, 4, 2, 0, 1])
    assert more[0][0].neighbors == (8, 6, 4, 2, 0)
    assert x.labels == ("k 1", "k 3")
    assert y.labels == ("guidance 1", "guidance 1.5", "guidance 2")


def test_another_grid_drops_the_neighbors_of_single_blocks(recipe):
    mixed = Recipe.from_dict({**recipe.to_dict(), "block_neighbors": {"3,3": [1]}})
    row = cross(mixed, Axis.parse("grid", "2,4"), Axis.parse("order", "seq, parallel"))[0]
    assert [bool(r.block_neighbors) for r in row] == [False, True]
    assert {r.order for r in row} == {"sequential"}


@pytest.mark.parametrize(
    ("setting", "text", "said"),
    [
        ("neighbors", "1", "one of k"),
        (None, "1", "one of k"),
        ("k", "", "1 to"),
        ("k", None, "1 to"),
        ("k", "2, 2", "different"),
        ("k", ",".join(map(str, range(1, MAX_VALUES + 2))), "1 to"),
        ("k", "two", "whole numbers"),
        ("steps", "1.5", "whole numbers"),
        ("grid", "x", "1, 2, 4"),
        ("order", "backwards", "order must be"),
        ("order", "", "1 to"),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused(setting, text, said):
    with pytest.raises(RissoleError, match=said):
        Axis.parse(setting, text)


@pytest.mark.parametrize(
    ("setting", "text", "said"),
    [
        ("k", "4", "k must be from 1 to 3, not 4"),
        ("k", "0", "k must be"),
        ("guidance", "nan", "guidance_scale must be"),
        ("steps", "500", "num_inference_steps must be"),
        ("grid", "3", "grid must be"),
        ("seed", "-1", "seed must be"),
    ],
)
def test_a_value_out_of_range_is_refused_before_painting(recipe, setting, text, said):
    other = Axis.parse("order", "parallel")
    with pytest.raises(RissoleError, match=said):
        cross(recipe, Axis.parse(setting, text), other)


def test_two_axes_of_one_setting_are_refused(recipe):
    with pytest.raises(RissoleError, match="two different"):
        cross(recipe, Axis.parse("k", "1"), Axis.parse("k", "2"))
