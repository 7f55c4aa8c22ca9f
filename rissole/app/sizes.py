"""How much memory a value takes, with all that is in it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

OBJECT = 112  # bytes of what an object is kept by, beside what `getsizeof` says


def held(value: Any) -> int:
    """Bytes of a value and of all that is in it, each thing once.

    It looks into lists, mappings and dataclasses; anything else is taken as a whole, which is
    exact for arrays, tensors and pictures.
    """
    seen: dict[int, Any] = {}  # keeps what it has seen alive: a number of memory may come again
    waiting, total = [value], 0
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen[id(one)] = one
            total += _own(one)
            waiting.extend(_inside(one))
    return total


def _own(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return OBJECT + value.untyped_storage().nbytes()
    if isinstance(value, np.ndarray):
        return OBJECT + value.nbytes
    if isinstance(value, Image.Image):
        channels = 1 if len(value.getbands()) == 1 else 4  # RGB lies in memory with a gap
        return 8 * OBJECT + value.width * value.height * channels
    return sys.getsizeof(value, OBJECT)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [vars(value)]
    return [value.base] if isinstance(value, np.ndarray) else ()
