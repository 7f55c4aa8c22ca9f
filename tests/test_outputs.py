"""What comes out: the recipe is checked once and carried, steps tell where they stand."""

import pytest

from rissole.config import Recipe
from rissole.sampling import is_guided


@pytest.fixture
def checks(monkeypatch):
    """Counts how often a recipe is made from unchecked values."""
    counted = []
    validated = Recipe.validated.__func__

    def counting(cls, **raw):
        counted.append(raw)
        return validated(cls, **raw)

    monkeypatch.setattr(Recipe, "validated", classmethod(counting))
    return counted


def test_a_picture_is_checked_once_and_by_its_recipe_not_again(pipe, checks):
    out = pipe(pipe.retrieve(item=0, k=2), num_inference_steps=1, seed=1)
    assert len(checks) == 1
    again = pipe(out.checked[0])
    *_, last = pipe.stream(out.checked[0])
    assert len(checks) == 1
    assert again.images[0].tobytes() == out.images[0].tobytes()
    assert last.output.checked == again.checked == out.checked


def test_several_pictures_are_checked_once(pipe, checks):
    out = pipe(neighbors=[1], num_inference_steps=1, seed=3, num_images=3)
    assert len(checks) == 1
    assert [recipe.seed for recipe in out.checked] == [3, 4, 5]
    assert [recipe["seed"] for recipe in out.recipes] == [3, 4, 5]


def test_a_repaint_of_a_repaint_is_checked_once_and_from_json_once_per_layer(pipe, checks):
    settings = {"neighbors": [1, 2], "num_inference_steps": 1}
    out = pipe(**settings, seed=1)
    for seed in (2, 3):
        out = pipe(**settings, seed=seed, init=out, blocks=[(0, seed)])
    assert len(checks) == 3
    again = pipe(out.checked[0])
    assert len(checks) == 3
    from_json = pipe(**out.recipe)
    assert len(checks) == 3 + 3
    for same in (again, from_json):
        assert same.images[0].tobytes() == out.images[0].tobytes()
        assert same.checked == out.checked


def test_an_output_at_hand_spares_painting_it(pipe):
    first = pipe(neighbors=[1, 2], num_inference_steps=2, seed=1)
    again = pipe(neighbors=[4], num_inference_steps=2, seed=2, init=first, blocks=[(1, 1)])
    *_, last = pipe.stream(again.checked[0], init=first)
    assert last.output.images[0].tobytes() == again.images[0].tobytes()
    guided = sum(is_guided(time, 1.5) for time in (1.0, 0.4))
    assert last.network_calls <= 2 + 2 * guided  # of its own steps alone
