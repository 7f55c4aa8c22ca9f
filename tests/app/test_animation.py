"""The painting as an animated picture."""

import io

import numpy as np
import pytest
from PIL import Image

from rissole.app.animation import animated, filmed, sampled
from rissole.config import RissoleError


def test_sampled_steps_are_spread_and_end_with_the_last():
    assert sampled(3, 10) == {1, 2, 3}
    assert sampled(100, 4) == {25, 50, 75, 100}
    assert len(sampled(320, 48)) == 48


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_an_animation_shows_the_filmed(pipe, order):
    values = {"neighbors": [3, 5], "order": order, "grid": 2, "num_inference_steps": 4, "seed": 1}
    seen = list(filmed(pipe, pipe.recipe(**values), limit=6))
    frames = [frame for _, frame in seen if frame is not None]
    assert len(frames) == {"sequential": 6, "parallel": 4}[order]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 1.0
    final = pipe(**values).images[0]
    assert (np.asarray(frames[-1]) == np.asarray(final)).all()
    for kind, name in (("gif", "GIF"), ("webp", "WEBP")):
        with Image.open(io.BytesIO(animated(frames, kind, size=128))) as film:
            assert (film.format, film.n_frames, film.size) == (name, len(frames), (128, 128))
            film.seek(film.n_frames - 1)
            shown = np.asarray(film.convert("RGB"), np.int16)
        assert np.abs(shown - np.asarray(final)).mean() < 12


def test_an_animation_shows_the_repaints_as_well(pipe):
    base = pipe.recipe(neighbors=[3], num_inference_steps=3, seed=1)
    values = {
        **base.to_dict(),
        "neighbors": [7],
        "init": base.to_dict(),
        "blocks": [(1, 2)],
        "seed": 4,
    }
    seen = list(filmed(pipe, pipe.recipe(**values)))
    frames = [np.asarray(frame) for _, frame in seen]
    assert len(frames) == 6
    assert (frames[2] == np.asarray(pipe(**base.to_dict()).images[0])).all()
    assert (frames[5] == np.asarray(pipe(**values).images[0])).all()


def test_an_animation_needs_frames_and_a_known_kind():
    for frames, kind in (([], "gif"), ([Image.new("RGB", (8, 8))], "mp4")):
        with pytest.raises(RissoleError, match="gif"):
            animated(frames, kind)
