"""Messages to the live canvas: small, and no more of them than eyes can follow."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
from PIL import Image

from rissole.config import Recipe
from rissole.pipeline import BlockStep
from rissole.web.guard import to_webp

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


def frame(step: BlockStep, recipe: Recipe, ids: list[int], attention: np.ndarray) -> dict[str, Any]:
    """The message for one step: some 5 KB, most of it the picture so far as WebP.

    The picture and the attention are one string each, so that an update is one change.

    Args:
        step: the step.
        recipe: what is painted.
        ids: the neighbours to show.
        attention: (rows, cols, len(ids)), how much each block listens to each of them.
    """
    final = step.output is not None
    picture = step.output.images[0] if final else step.preview
    return {
        "state": "done" if final else "running",
        "grid": recipe.grid,
        "repaint": list(recipe.blocks[0]) if recipe.blocks else None,
        "used": list(step.neighbors),
        "ids": list(ids),
        "position": None if step.position is None else list(step.position),
        "index": step.index,
        "num_blocks": step.num_blocks,
        "step": step.step,
        "total_steps": step.total_steps,
        "calls": step.network_calls,
        "done": _bits(step.done),
        "active": _bits(step.active),
        "attention": _bytes(attention),
        "frame": data_uri(picture, None if final else 85),
    }


def data_uri(image: Image.Image, quality: int | None = 85) -> str:
    """A picture as a WebP data URI; `quality=None` keeps every pixel as it is."""
    return "data:image/webp;base64," + base64.b64encode(to_webp(image, quality)).decode()


def _bits(mask: np.ndarray) -> str:
    return "".join("1" if value else "0" for value in np.asarray(mask).ravel())


def _bytes(attention: np.ndarray) -> str:
    # the bars need no more than 8 bits; (rows, cols, k) in C order
    levels = np.nan_to_num(np.asarray(attention, dtype=np.float32)).clip(0, 1) * 255
    levels = np.maximum(levels.round(), levels > 0)  # 0 says: this block did not see it
    return base64.b64encode(levels.astype(np.uint8).tobytes()).decode()
