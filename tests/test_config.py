import json

import numpy as np
import pytest
import torch

from rissole.config import MAX_REPAINTS, Recipe, RissoleError, quoted

GOOD = {"neighbors": [3, 1], "seed": 7}
LONG = 10**5000  # Python does not spell it


def test_round_trip_through_json():
    recipe = Recipe.validated(**GOOD, grid=2, block_neighbors={(0, 1): [9], "1,1": [4, 5]})
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.block_neighbors == ((0, 1, (9,)), (1, 1, (4, 5)))
    assert again.all_neighbors == (3, 1, 9, 4, 5)


def test_a_usual_strength_is_not_written_and_another_is():
    assert "strength" not in Recipe.validated(**GOOD).to_dict()
    led = Recipe.validated(**GOOD, strength=2)
    assert led.to_dict()["strength"] == 2.0
    assert Recipe.from_dict(led.to_dict()) == led != Recipe.validated(**GOOD)
    with pytest.raises(RissoleError, match="strength must be from 0 to 4"):
        Recipe.validated(**GOOD, strength=5)


def test_repaint_keeps_the_whole_history():
    first = Recipe.validated(**GOOD)
    second = Recipe.validated(**GOOD, blocks=[(2, 3)], init=first.to_dict())
    assert Recipe.from_dict(second.to_dict()).init == first


def test_repaints_may_be_nested_so_deep_and_no_deeper():
    recipe = Recipe.validated(**GOOD).to_dict()
    for _ in range(MAX_REPAINTS):
        recipe = Recipe.validated(**GOOD, blocks=[(0, 0)], init=recipe).to_dict()
    with pytest.raises(RissoleError, match="repainted 16 times"):
        Recipe.validated(**GOOD, blocks=[(0, 0)], init=recipe)


def test_a_recipe_nested_without_end_is_refused():
    endless = {**GOOD, "blocks": [(0, 0)]}
    endless["init"] = endless
    with pytest.raises(RissoleError, match="repainted 16 times"):
        Recipe.from_dict(endless)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"neighbors": []}, "neighbors must name 1 to 16"),
        ({"neighbors": list(range(17))}, "not 17"),
        ({"neighbors": [-1]}, "from 0"),
        ({"neighbors": "3,1"}, "must be a list"),
        ({"neighbors": [True]}, "whole number"),
        ({"order": "random"}, "order must be one of"),
        ({"grid": 3}, "grid must be 1, 2 or 4"),
        ({"num_inference_steps": 0}, "num_inference_steps must be from 1"),
        ({"num_inference_steps": 2.5}, "whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be from 0"),
        ({"guidance_scale": "2"}, "must be a number"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**64}, "seed must be from 0"),
        ({"blocks": [(0, 0)]}, "belong together"),
        ({"block_neighbors": {(4, 0): [1]}}, "row and column"),
        ({"block_neighbors": {(0, 0): []}}, "must name 1 to 16"),
        ({"color": "red"}, "unknown setting: color"),
        ({"neighbors": torch.tensor([1.7, 2.9])}, "whole number, not tensor"),
        ({"neighbors": torch.tensor([True, False])}, "whole number"),
        ({"neighbors": [torch.zeros(2, 2)]}, "whole number"),
        ({"neighbors": np.array(5)}, r"must be a list, not array\(5\)"),
        ({"neighbors": torch.tensor(5)}, "must be a list"),
        ({"seed": torch.tensor(2.5)}, "whole number"),
        ({"seed": torch.tensor([1, 2])}, "whole number"),
        ({"seed": np.array([1, 2])}, "whole number"),
        ({"order": np.array(["parallel", "parallel"])}, "order must be one of"),
        ({"order": [LONG]}, "not something of type list"),
        ({"blocks": [[LONG]]}, "a block position is"),
        ({"bundle": LONG}, "bundle must be a fingerprint"),
        ({"database": np.array([1, 2])}, "database must be a fingerprint"),
    ],
)
def test_bad_values_are_one_clear_line(change, words):
    with pytest.raises(RissoleError, match=words) as caught:
        Recipe.validated(**{**GOOD, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [np.float32(1.5), np.array(1.5), torch.tensor(1.5), 1.5])
def test_numbers_of_numpy_are_numbers(number):
    recipe = Recipe.validated(**{**GOOD, "guidance_scale": number, "seed": np.int64(7)})
    assert (recipe.guidance_scale, type(recipe.guidance_scale)) == (1.5, float)
    assert (recipe.seed, type(recipe.seed)) == (7, int)


@pytest.mark.parametrize("seven", [np.array(7), torch.tensor(7), torch.tensor(7.0), np.float32(7)])
def test_whole_numbers_of_arrays_are_numbers(seven):
    recipe = Recipe.validated(neighbors=torch.tensor([3, 1]), seed=seven)
    assert recipe == Recipe.validated(**GOOD)
    assert {type(number) for number in (*recipe.neighbors, recipe.seed)} == {int}


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [torch.zeros(9, 9), np.eye(9), [LONG], {"a": [LONG]}, Silent()])
def test_whatever_is_quoted_is_one_short_line(value):
    assert 0 < len(quoted(value)) <= 40
    assert len(quoted(value).splitlines()) == 1


def test_a_setting_may_have_any_name():
    with pytest.raises(RissoleError, match="unknown setting: a number of more than 36 digits"):
        Recipe.from_dict({**GOOD, LONG: 1})
