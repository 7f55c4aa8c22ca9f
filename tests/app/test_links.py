"""Links, animations and sheets."""

import io

import numpy as np
import pytest
from PIL import Image

from rissole.app.links import (
    MAX_LINK,
    animation,
    block_sheet,
    decode,
    encode,
    labelled_grid,
    layers,
    painting,
    query_of,
    sampled,
)
from rissole.config import MAX_REPAINTS, Recipe, RissoleError

BASE = Recipe.validated(
    bundle="1f3a",
    database="77c0",
    neighbors=[3, 17, 5],
    block_neighbors={(0, 1): [9], (3, 3): [2, 4]},
    order="sequential",
    grid=4,
    num_inference_steps=7,
    guidance_scale=1.1,
    seed=2**63 - 1,
)


def repainted(base: Recipe, times: int) -> Recipe:
    for number in range(times):
        values = {**base.to_dict(), "seed": number, "block_neighbors": {}}
        blocks = [(number % 4, 2), (3, 1)]
        base = Recipe.validated(**{**values, "blocks": blocks, "init": base, "order": "parallel"})
    return base


@pytest.mark.parametrize("times", [0, 1, MAX_REPAINTS])
def test_a_link_brings_the_recipe_back(times):
    recipe = repainted(BASE, times)
    link = encode(recipe)
    assert decode(link) == recipe
    assert decode(f"http://127.0.0.1:7860/page?__theme=dark&{link}#top") == recipe
    assert len(link) < 100 + 110 * (times + 1)
    assert not set(link) - set("abcdefghijklmnopqrstuvwxyz0123456789=&~.-")


def test_a_link_may_name_the_query():
    link = encode(BASE, 17)
    assert (query_of(link), decode(link)) == (17, BASE)
    for other in (encode(BASE), "q=1.5&p=n1", "q=-1", "q=x"):
        assert query_of(other) is None


def test_layers_lead_from_the_picture_to_the_last_repaint():
    recipe = repainted(BASE, 3)
    found = layers(recipe)
    assert (found[0], found[-1], len(found)) == (BASE, recipe, 4)
    assert [layer.init for layer in found[1:]] == found[:-1]


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("", "damaged"),
        (None, "damaged"),
        ({"p": "n1"}, "damaged"),
        ("b=1&d=2", "damaged"),
        ("p=", "damaged"),
        ("p=n", "damaged"),
        ("p=n1..2", "damaged"),
        ("p=n1~wx", "damaged"),
        ("p=n1~z3", "damaged"),
        ("p=n1~g٣", "damaged"),
        ("p=n1~s" + "9" * 30, "damaged"),
        ("p=n" + "1." * MAX_LINK, "damaged"),
        ("p=n1" + "&p=n1~r0.0" * (MAX_REPAINTS + 1), "damaged"),
        ("p=n1~oq", "order must be"),
        ("p=n1~g3", "grid must be"),
        ("p=n1~wnan", "guidance_scale must be"),
        ("p=n1~t0", "num_inference_steps must be"),
        ("p=op", "neighbors must name"),
        ("p=n1&p=n1", "belong together"),
        ("p=n1~x0", "must map"),
        ("p=n1~x9.9.1", "row and column"),
    ],
)
def test_a_bad_link_is_refused_in_one_line(link, said):
    with pytest.raises(RissoleError, match=said) as caught:
        decode(link)
    assert "\n" not in str(caught.value)


def test_a_link_paints_the_same_pixels(pipe):
    out = pipe(neighbors=[3, 5], seed=9, num_inference_steps=2)
    again = pipe(neighbors=[7], init=out, blocks=[(1, 2)], seed=4, num_inference_steps=2)
    same = pipe(**decode(encode(Recipe.from_dict(again.recipe))).to_dict())
    assert (np.asarray(same.images[0]) == np.asarray(again.images[0])).all()


def test_sampled_steps_are_spread_and_end_with_the_last():
    assert sampled(3, 10) == {1, 2, 3}
    assert sampled(100, 4) == {25, 50, 75, 100}
    assert len(sampled(320, 48)) == 48


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_an_animation_shows_the_painting(pipe, order):
    values = {"neighbors": [3, 5], "order": order, "grid": 2, "num_inference_steps": 4, "seed": 1}
    seen = list(painting(pipe, pipe.recipe(**values), limit=6))
    frames = [frame for _, frame in seen if frame is not None]
    assert len(frames) == {"sequential": 6, "parallel": 4}[order]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 1.0
    final = pipe(**values).images[0]
    assert (np.asarray(frames[-1]) == np.asarray(final)).all()
    for kind, name in (("gif", "GIF"), ("webp", "WEBP")):
        with Image.open(io.BytesIO(animation(frames, kind, size=128))) as film:
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
    seen = list(painting(pipe, pipe.recipe(**values)))
    frames = [np.asarray(frame) for _, frame in seen]
    assert len(frames) == 6
    assert (frames[2] == np.asarray(pipe(**base.to_dict()).images[0])).all()
    assert (frames[5] == np.asarray(pipe(**values).images[0])).all()


def test_an_animation_needs_frames_and_a_known_kind():
    for frames, kind in (([], "gif"), ([Image.new("RGB", (8, 8))], "mp4")):
        with pytest.raises(RissoleError, match="gif"):
            animation(frames, kind)


def test_a_labelled_grid_holds_every_picture():
    colors = [["red", "lime"], ["blue", None]]
    cells = [[c and Image.new("RGB", (16, 16), c) for c in line] for line in colors]
    sheet = labelled_grid(
        cells, ["k 1", "k 2"], ["steps 4", "steps 8"], [["a", "b"], ["c", ""]], "T"
    )
    found = sheet.getcolors(sheet.width * sheet.height)
    area = {colour: count for count, colour in found}
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert area[colour] == 160 * 160
    plain = labelled_grid([[cells[0][0]]], [""], [""])
    assert plain.height < sheet.height


def test_a_block_sheet_shows_whom_each_block_listened_to():
    image = Image.new("RGB", (64, 64), "red")
    pictures = {5: Image.new("RGB", (64, 64), "lime"), 8: Image.new("RGB", (64, 64), "blue")}
    attention = np.zeros((2, 2, 2))
    attention[..., 1] = 0.75  # all listen to 8, one block to 5 as well
    attention[0, 1, 0] = 0.25
    sheet = block_sheet(image, [5, 8], attention, pictures.__getitem__, tile=32)
    area = {colour: count for count, colour in sheet.getcolors(sheet.width * sheet.height)}
    assert (area[0, 255, 0], area[0, 0, 255]) == (32 * 32 + 60 * 60, 4 * 32 * 32 + 60 * 60)
    assert area[255, 0, 0] > 4 * 32 * 32  # the blocks and the whole picture
