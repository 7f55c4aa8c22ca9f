"""The retriever alone: with another database or encoder nothing is copied."""

import numpy as np
import pytest
from conftest import picture

from rissole.config import RissoleError


def test_another_encoder_or_database_leaves_the_first_as_it_was(pipe, databases):
    corner = pipe.with_encoder("latent-corner")
    assert (corner.retriever.encoder.name, pipe.retriever.encoder.name) == (
        "latent-corner",
        "latent",
    )
    assert corner.denoiser is pipe.denoiser and corner.database is pipe.database
    asked = pipe.retrieve(item=3, k=5, encoder="latent-corner")
    assert corner.retrieve(item=3, k=5).ids == asked.ids
    moods = corner.with_database(databases / "moods")
    assert moods.retriever.encoder.name == "latent-corner"
    assert len(moods.database) == 10 and len(pipe.database) == 24


def test_pictures_are_gathered_and_what_is_none_is_left_out(pipe):
    own = pipe.with_pictures([picture(40), b"no picture", picture(41)])
    assert len(own.database) == 2
    assert own.retrieve(image=picture(41), k=1).ids == [1]
    with pytest.raises(RissoleError, match="give 1 to 256 pictures: "):
        pipe.with_pictures([b"no picture"])


def test_an_encoder_that_is_not_there_is_named(pipe):
    with pytest.raises(RissoleError, match="latent"):
        pipe.with_encoder("none")


LAST = 23  # number of pictures in the tiny database, but for one


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda r: r.similarity(10**6, [0]), f"item must be from 0 to {LAST}, not 1000000"),
        (lambda r: r.similarity(True, [0]), "item must be a whole number"),
        (lambda r: r.similarity(0, [10**6]), f"each of ids must be from 0 to {LAST}"),
        (lambda r: r.similarity(0, [-1]), f"each of ids must be from 0 to {LAST}"),
        (lambda r: r.similarity(0, 5), "ids must be a list, not 5"),
        (lambda r: r.similarity(None, [0]), "give a query"),
        (lambda r: r.similarity(0, [0], text=5), "text must be a string, not 5"),
        (lambda r: r.retrieve(text=5), "text must be a string, not 5"),
        (lambda r: r.retrieve(text=b"cat", label="x"), "text must be a string"),
        (lambda r: r.retrieve(item=0, label=5), "the database has no class 5"),
        (lambda r: r.retrieve(item=0, label=np.array(["a", "b"])), "the database has no class arr"),
        (lambda r: r.retrieve(label=["a"]), r"the database has no class \['a'\]"),
        (lambda r: r.retrieve(encoder=["x"]), "encoder must be a string"),
        (lambda r: r.prepare(5), "encoder must be a string"),
        (lambda r: r.with_encoder(None), "encoder must be one of latent"),
        (lambda r: r.gather(5, "mine"), "pictures must be a list, not 5"),
        (lambda r: r.gather("photos", "mine"), "pictures must be a list, not 'photos'"),
        (lambda r: r.gather(picture(0), "mine"), "pictures must be a list"),
    ],
)
def test_what_no_search_can_use_is_named(pipe, ask, told):
    with pytest.raises(RissoleError, match=told):
        ask(pipe.retriever)


def test_vectors_can_be_made_in_steps(pipe):
    own = pipe.with_pictures([picture(seed) for seed in range(20)]).retriever
    corner = own.find_encoder("latent-corner")
    assert list(own.preparing(corner)) == [None, None]  # two batches
    assert list(own.preparing(corner)) == []
    hits = own.retrieve(item=3, encoder="latent-corner")
    anew = pipe.with_pictures([picture(seed) for seed in range(20)])
    assert anew.retrieve(item=3, encoder="latent-corner").scores == hits.scores
