"""Damages data as disks, networks and strangers do: at random, and the same on every run."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

NUMBERS = (True, 0, -1, 1, 2, 3, 10**6, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"))
TEXTS = ("", "x", "exact", "\n", "../..", "<b>", "\x00", "9" * 500)
ODD = (None, *NUMBERS, *TEXTS, [], {}, [[]], [1, 2, 3], {"a": 1})


def damaged(data: bytes, rng: Random) -> bytes:
    """Some bytes flipped, replaced, left out, doubled, or the end cut off."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, length = rng.randrange(len(made) or 1), rng.choice((1, 1, 2, 4, 8, 64))
        how = rng.randrange(6)
        if how == 0 and made:
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            made[at : at + length] = rng.randbytes(length)
        elif how == 2:
            del made[at : at + length]
        elif how == 3:
            made[at:at] = made[at : at + length]
        elif how == 4:
            made[at : at + length] = bytes([rng.choice((0, 255))]) * length
        elif rng.random() < 0.3:
            del made[at:]
    return bytes(made)


def odd_json(data: bytes, rng: Random) -> bytes:
    """The same JSON with one value another, missing or too many; or its text damaged."""
    if rng.random() < 0.25:
        return damaged(data, rng)
    value = json.loads(data)
    node = rng.choice(list(_containers(value)))
    places = list(node) if isinstance(node, dict) else list(range(len(node)))
    how = rng.randrange(4)
    if how == 0 or not places:
        _add(node, rng)
    elif how == 1:
        del node[rng.choice(places)]
    else:
        node[rng.choice(places)] = rng.choice(ODD)
    return json.dumps(value).encode()


def _add(node: Any, rng: Random) -> None:
    if isinstance(node, dict):
        node[rng.choice(("more", "", "\n", "name", "format", "probes"))] = rng.choice(ODD)
    else:
        node.append(rng.choice(ODD))


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


@contextmanager
def no_hang(seconds: int = 20) -> Iterator[None]:
    """Ends what would never end."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
