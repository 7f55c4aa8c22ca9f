"""Pictures that are painted for hours are not painted twice."""

import copy
import os

import torch
from conftest import TINY, seeded

from rissole.loading import fast_dtype
from rissole.models.denoiser import Denoiser
from rissole.training.bulk import Painting, batch_size, paint_many
from rissole.training.gallery import paint_kept


def test_what_was_painted_before_the_end_is_not_painted_again(tmp_path):
    model, how = seeded(Denoiser(TINY), 0), Painting(num_inference_steps=1, guidance_scale=1.0)
    count = 2 * batch_size(torch.device("cpu")) + 1
    neighbors = torch.randn(count, 2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    fast = copy.deepcopy(model).to(fast_dtype(torch.device("cpu")))
    whole = paint_many(fast, neighbors, how, seed=5)
    assert torch.equal(paint_kept(model, neighbors, how, 5, tmp_path), whole)
    first, second, third = sorted(tmp_path.iterdir())
    second.unlink()  # as if killed before it, and a disk that forgot
    os.truncate(third, 50)
    before = first.stat().st_mtime_ns
    assert torch.equal(paint_kept(model, neighbors, how, 5, tmp_path), whole)
    assert sorted(tmp_path.iterdir()) == [first, second, third]
    assert first.stat().st_mtime_ns == before
    assert not torch.equal(paint_kept(model, neighbors, how, 6, tmp_path), whole)
    assert len(list(tmp_path.iterdir())) == 6


def test_any_seed_of_a_picture_is_one_of_a_gallery(tmp_path):
    model, how = seeded(Denoiser(TINY), 0), Painting(num_inference_steps=1, guidance_scale=1.0)
    neighbors = torch.zeros(1, 2, 4, 32, 32)
    low, high = (paint_kept(model, neighbors, how, seed, tmp_path) for seed in (5, 2**64 - 1))
    assert not torch.equal(low, high)
