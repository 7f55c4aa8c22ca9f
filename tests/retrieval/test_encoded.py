"""What a set of neighbors is encoded to is kept for a while."""

import torch
from conftest import picture

from rissole.retrieval.encoded import SETS, EncodedNeighbors


def test_a_set_is_encoded_once_and_the_last_few_are_kept(pipe):
    encoded = EncodedNeighbors()

    def features(ids, database=pipe.database):
        with torch.inference_mode():
            return encoded(pipe.denoiser, database, ids)

    first = features([1, 2])
    assert features([1, 2]) is first
    latents = pipe.database.latents([1, 2])[None].to(pipe.torch_dtype)
    fresh = pipe.denoiser.encode_neighbors(latents)
    assert all(torch.equal(a, b) for a, b in zip(first, fresh, strict=True))
    for other in range(3, 3 + SETS):  # as many as are kept
        features([other])
    assert features([2 + SETS]) is features([2 + SETS])
    assert features([1, 2]) is not first


def test_what_a_visitor_brings_is_not_kept(pipe):
    encoded = EncodedNeighbors()
    own = pipe.with_pictures([picture(200), picture(201)], "mine").database
    with torch.inference_mode():
        first = encoded(pipe.denoiser, own, [0, 1])
        assert encoded(pipe.denoiser, own, [0, 1]) is not first


def test_pictures_of_a_kept_set_are_the_same(pipe):
    hits = pipe.retrieve(item=4, k=3)
    once, again = (pipe(hits, num_inference_steps=2, seed=9) for _ in range(2))
    assert torch.equal(once.latents, again.latents)
