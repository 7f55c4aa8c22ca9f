"""Messages to the live canvas: small, and no more of them than eyes can follow."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from rissole.app.guard import to_webp
from rissole.config import Recipe
from rissole.outputs import BlockStep

FRAMES_PER_SECOND = 15


class Throttle:
    """Says which steps are worth a frame: at most `rate` a second, and every block's last step.

    Args:
        rate: frames per second.
    """

    def __init__(self, rate: float = FRAMES_PER_SECOND):
        self.interval, self.last = 1 / rate, float("-inf")

    def due(self, step: int, total_steps: int) -> bool:
        """Whether step `step` (1 to `total_steps`) of a block should be shown now."""
        now = time.monotonic()
        if now - self.last < self.interval and step < total_steps:
            return False
        self.last = now
        return True


class Meter:
    """Counts what each block cost: network calls, and milliseconds of the model's own time.

    Args:
        grid: blocks per side.
        spent: what the blocks of the picture beneath cost, for those that are kept.
    """

    def __init__(self, grid: int, spent: list | None = None):
        self.spent: list[list | None] = list(spent) if spent else [None] * grid**2

    def timed(self, steps: Iterable[BlockStep]) -> Iterator[BlockStep]:
        """Passes steps on; afterwards each block has [calls, ms, blocks that share them]."""
        index, calls, before, ms = 0, 0, 0, 0.0
        began = time.perf_counter()
        for step in steps:
            if step.index != index:  # another block has begun
                index, before, ms = step.index, calls, 0.0
            ms, calls = ms + 1000 * (time.perf_counter() - began), step.network_calls
            entry = [calls - before, round(ms), int(step.active.sum())]
            for at in np.flatnonzero(step.active):
                self.spent[at] = entry
            yield step
            began = time.perf_counter()


def frame(
    step: BlockStep,
    recipe: Recipe,
    ids: list[int],
    attention: np.ndarray,
    lossless: bool = True,
) -> dict[str, Any]:
    """The message for one step: some 8 KB, most of it the picture so far as WebP.

    The picture and the attention are one string each, so that an update is one change.

    Args:
        step: the step.
        recipe: what is painted.
        ids: the neighbors to show.
        attention: (len(ids), cells, cells), how much each cell listens to each of them.
        lossless: whether a finished picture is sent with every pixel as it is.
    """
    final = step.output is not None
    picture = step.preview if step.output is None else step.output.images[0]
    return {
        "state": "done" if final else "running",
        "grid": recipe.grid,
        "repaint": [list(block) for block in recipe.blocks] or None,
        "used": list(recipe.neighbors),
        "own": {f"{row},{col}": list(own) for row, col, own in recipe.block_neighbors},
        "ids": list(ids),
        "position": None if step.position is None else list(step.position),
        "index": step.index,
        "num_blocks": step.num_blocks,
        "step": step.step,
        "total_steps": step.total_steps,
        "calls": step.network_calls,
        "done": _bits(step.done),
        "active": _bits(step.active),
        "cells": int(attention.shape[-1]),
        "attention": _bytes(attention),
        "frame": data_uri(picture, None if final and lossless else 85),
    }


def data_uri(image: Image.Image, quality: int | None = 85) -> str:
    """A picture as a WebP data URI; `quality=None` keeps every pixel as it is."""
    return "data:image/webp;base64," + base64.b64encode(to_webp(image, quality)).decode()


def _bits(mask: np.ndarray) -> str:
    return "".join("1" if value else "0" for value in np.asarray(mask).ravel())


def _bytes(attention: np.ndarray) -> str:
    # the bars need no more than 8 bits; (k, cells, cells) in C order
    levels = np.nan_to_num(np.asarray(attention, dtype=np.float32)).clip(0, 1) * 255
    levels = np.maximum(levels.round(), levels > 0)  # 0 says: this cell did not see it
    return base64.b64encode(levels.astype(np.uint8).tobytes()).decode()
