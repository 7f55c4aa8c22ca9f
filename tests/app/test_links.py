"""Links that hold a recipe."""

import numpy as np
import pytest

from rissole.app.links import MAX_LINK, checksum, decode, encode, query_of
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
    seed=2**64 - 1,
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
    assert len(link) < 100 + 120 * (times + 1)
    assert not set(link) - set("abcdefghijklmnopqrstuvwxyz0123456789=&~.-")


def test_a_link_may_name_the_query():
    link = encode(BASE, 17)
    assert (query_of(link), decode(link)) == (17, BASE)
    for other in (encode(BASE), "q=1.5&p=n1", "q=-1", "q=x"):
        assert query_of(other) is None


def test_what_a_link_leaves_out_is_as_in_the_bundle(pipe):
    usual = {**pipe.defaults, "grid": 2, "guidance_scale": 3.0}
    recipe = decode("p=n3.5~s1&p=n3~g2~r0.1", usual)
    assert (recipe.guidance_scale, recipe.grid, recipe.init.grid) == (3.0, 2, 2)
    assert (recipe.bundle, recipe.database) == (None, None)
    assert decode(encode(recipe)) == recipe
    assert not {"b", "d", "q"} & {part[0] for part in encode(recipe).split("&")}


def test_a_changed_link_is_refused_and_never_another_picture():
    """Every single character replaced, left out or doubled, and every end cut off."""
    recipe = repainted(BASE, 1)
    link = encode(recipe, 17)
    changed = [link[:at] for at in range(len(link))]
    for at in range(len(link)):
        changed += [link[:at] + link[at + 1 :], link[:at] + link[at] + link[at:]]
        changed += [link[:at] + other + link[at + 1 :] for other in "0189cnoxz~.&=p"]
    refused = 0
    for text in changed:
        try:
            assert decode(text) == recipe, text
        except RissoleError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 0.9 * len(changed)


def test_no_repaint_is_taken_for_a_link_of_its_own():
    """Whatever part of a link of several layers is left, it is the whole picture or refused."""
    link = encode(repainted(BASE, 2), 17)
    parts = link.split("&")
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            part = "&".join(parts[start:end])
            if part != link:
                with pytest.raises(RissoleError, match="damaged"):
                    decode(part)
    older = link.replace(parts[-1][:12], "p=")  # when only the first had a checksum
    assert decode(older.replace("p=", parts[-1][:12], 1)) == decode(link)


def test_the_checksum_is_told_in_one_line_and_may_be_missing():
    link = encode(BASE)
    field = link.partition("p=")[2][:10]
    without = link.replace(field, "")
    assert (field[0], field[-1], checksum(without)) == ("c", "~", field[1:-1])
    assert decode(without) == BASE
    assert decode(f"utm_source=mail&{link}&fbclid=1") == BASE
    with pytest.raises(RissoleError, match="its checksum is wrong"):
        decode(link.replace("b=1f3a", "b=1f3b"))
    assert checksum("123456789") == "mlpedjcg"  # CRC32 of every textbook: cbf43926


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
    same = pipe(**decode(encode(again.checked[0])).to_dict())
    assert (np.asarray(same.images[0]) == np.asarray(again.images[0])).all()
