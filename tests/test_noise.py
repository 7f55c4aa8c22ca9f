"""The numbers of a seed are what they were, in Python as in JavaScript, wherever one begins."""

import json
import math
from pathlib import Path

import pytest
import torch

from rissole.noise import choice, normal, words

GOLDEN = json.loads((Path(__file__).parent / "golden" / "noise.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["words"])
def test_words_are_those_of_the_paper(case):
    """Known answers of Random123, the authors' library."""
    assert words(int(case["seed"]), int(case["counter"]), 1, int(case["stream"])).tolist() == [
        case["words"]
    ]


@pytest.mark.parametrize("case", GOLDEN["normal"], ids=lambda case: case["seed"])
def test_numbers_of_a_seed_stay_what_they_are(case):
    found = normal(int(case["seed"]), (len(case["numbers"]),), case["start"])
    assert found.tolist() == case["numbers"]


@pytest.mark.parametrize("case", GOLDEN["choice"], ids=lambda case: case["seed"])
def test_choices_of_a_seed_stay_what_they_are(case):
    assert choice(int(case["seed"]), case["count"]) == case["chosen"]


def test_numbers_depend_on_their_position_alone():
    whole = normal(7, (4, 8, 8))
    assert torch.equal(normal(7, (2, 3), 5).flatten(), whole.flatten()[5:11])
    assert torch.equal(normal(7, (64, 4, 64)).flatten()[:256], whole.flatten())


def test_numbers_are_normal_and_seeds_are_strangers():
    drawn = torch.stack([normal(seed, (40_000,)) for seed in (0, 1, 2**32, 2**64 - 1)])
    error = 5 / math.sqrt(drawn.shape[1])  # five standard errors
    assert drawn.mean(1).abs().max() < error
    assert (drawn.square().mean(1) - 1).abs().max() < 1.5 * error
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < error
    assert abs((drawn.abs() > 1.959964).float().mean().item() - 0.05) < 0.003


def test_every_choice_is_as_likely():
    counts = torch.bincount(torch.tensor([choice(seed, 10) for seed in range(2_000)]))
    assert len(counts) == 10 and counts.min() > 140 and counts.max() < 260
