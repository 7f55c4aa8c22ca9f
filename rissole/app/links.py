"""Links that hold a recipe, so that whoever opens one sees the same pixels.

A link is a query string such as `b=1f3a...&d=77c0...&p=cgkhbpdma~n3.17.5~op~g4~t20~w1.5~s42`:
fingerprints of the weights and of the database, then one `p` for the picture and one more for each
repaint upon it. Every `p` begins with `c` and a checksum of the whole link as it is without those
fields: its CRC32 (of UTF-8), the eight hex digits written as letters from a to p. So no repaint can
be taken for a link of its own, should what is before it get lost. Whoever checks it leaves out all
parameters but `b`, `d`, `q` and `p`. Older links have none, or one in the first `p` alone, and are
read, too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from rissole.config import MAX_REPAINTS, ORDERS, Recipe, RissoleError
from rissole.request import SHIPPED

MAX_LINK = 6000  # characters; browsers and servers carry at least this many
DAMAGED = "the link is damaged, or not one of this app"
CHECK = "c"  # no other field may begin with it: a damaged letter must not make the checksum one

_OWN = ("b", "d", "q", "p")  # what the checksum covers; mail programs and the page add others

_LETTERS = {"n": "neighbors", "o": "order", "g": "grid", "t": "num_inference_steps"}
_LETTERS |= {"w": "guidance_scale", "s": "seed", "x": "block_neighbors", "r": "blocks"}
_LETTERS |= {"f": "strength"}  # how much blocks follow; left out where it is 1
_SEVERAL = ("block_neighbors", "blocks")  # fields that a picture may have more than once
_TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_NUMBERS = re.compile(r"\d{1,20}(\.\d{1,20})*", re.ASCII)


def encode(recipe: Recipe, item: int | None = None) -> str:
    """A recipe as a compact query string, without the question mark; `decode` reads it.

    Args:
        recipe: what to pass on.
        item: the database picture that was searched with, to show it again (`query_of`).
    """
    origin = {"b": recipe.bundle, "d": recipe.database, "q": item}
    start = "".join(f"{name}={value}&" for name, value in origin.items() if value is not None)
    layers = list(map(_layer, recipe.layers))
    field = f"p={CHECK}{checksum(start + _joined(('p', layer) for layer in layers))}~"
    return start + "&".join(field + layer for layer in layers)


def checksum(text: str) -> str:
    """CRC32 in eight letters from a to p, so that no digit of it can be taken for a number."""
    return f"{zlib.crc32(text.encode()):08x}".translate(_TO_LETTERS)


def decode(link: Any, defaults: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a query string, or of a whole address with one.

    Args:
        link: it may come from anywhere.
        defaults: settings for those that it leaves out, as a bundle has them; our own leave out
            none.

    Raises:
        RissoleError: one line, whatever was given.
    """
    pairs = _intact(_pairs(link))
    texts = [value for name, value in pairs if name == "p"]
    if not 1 <= len(texts) <= MAX_REPAINTS + 1:
        raise RissoleError(DAMAGED)
    usual = {name: value for name, value in (defaults or {}).items() if name in SHIPPED}
    origin = {"bundle": dict(pairs).get("b"), "database": dict(pairs).get("d")}
    recipe = Recipe.validated(**usual | origin | _settings(texts[0]))
    for text in texts[1:]:
        recipe = Recipe.validated(**usual | origin | _settings(text), init=recipe)
    return recipe


def query_of(link: Any) -> int | None:
    """The database picture that a link names as the query, if any."""
    text = dict(_pairs(link)).get("q", "")
    return int(text) if _NUMBERS.fullmatch(text) and text.isdigit() else None


def _pairs(link: Any) -> list[tuple[str, str]]:
    if not isinstance(link, str) or len(link) > MAX_LINK:
        raise RissoleError(DAMAGED)
    return parse_qsl(link.rpartition("?")[2].partition("#")[0])


def _intact(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters of a link without its checksums, which must be right where there are any."""
    found, own = set(), []
    for name, value in pairs:
        if name == "p" and value.startswith(CHECK):
            field, _, value = value.partition("~")
            found.add(field)
        if name in _OWN:
            own.append((name, value))
    if found and found != {CHECK + checksum(_joined(own))}:
        raise RissoleError(f"{DAMAGED}: its checksum is wrong")
    return own


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)


def _layer(recipe: Recipe) -> str:
    fields = [
        "n" + _dotted(recipe.neighbors),
        *("x" + _dotted((row, col, *ids)) for row, col, ids in recipe.block_neighbors),
        "o" + recipe.order[0],
        f"g{recipe.grid}",
        f"t{recipe.num_inference_steps}",
        "w" + repr(recipe.guidance_scale).removesuffix(".0"),
        f"s{recipe.seed}",
        *(["f" + repr(recipe.strength).removesuffix(".0")] if recipe.strength != 1 else []),
        *("r" + _dotted(position) for position in recipe.blocks),
    ]
    return "~".join(fields)


def _dotted(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))


def _settings(text: str) -> dict[str, Any]:
    """The settings of one picture or repaint; those left out keep their usual values."""
    found: dict[str, Any] = {}
    for field in text.split("~"):
        name, value = _LETTERS.get(field[:1]), field[1:]
        if name is None or (name in found and name not in _SEVERAL):
            raise RissoleError(DAMAGED)  # a damaged checksum can look like a field
        if name in _SEVERAL:
            found.setdefault(name, []).append(_numbers(value))
        else:
            found[name] = _value(name, value)
    found["block_neighbors"] = [(*n[:2], n[2:]) for n in found.get("block_neighbors", [])]
    return found


def _value(name: str, text: str) -> Any:
    if name == "order":
        return {order[0]: order for order in ORDERS}.get(text, text)
    if name in ("guidance_scale", "strength"):
        try:
            return float(text)
        except ValueError:
            raise RissoleError(DAMAGED) from None
    return _numbers(text) if name == "neighbors" else _numbers(text)[0]


def _numbers(text: str) -> list[int]:
    if not _NUMBERS.fullmatch(text):
        raise RissoleError(DAMAGED)
    return [int(number) for number in text.split(".")]
