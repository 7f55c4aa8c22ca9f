"""What each neighbor did to a block, measured: the picture is painted again without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rissole.app.state import Block
from rissole.config import Recipe
from rissole.outputs import last_output
from rissole.pipeline import RissolePipeline


def seen_by(recipe: Recipe, block: Block) -> tuple[Recipe, tuple[int, ...]]:
    """(the layer that painted a block, the neighbors that it saw); of several repaints the last."""
    layer = next(one for one in reversed(recipe.layers) if not one.blocks or block in one.blocks)
    own = {(row, col): ids for row, col, ids in layer.block_neighbors}
    return layer, own.get(block, layer.neighbors)


def influence(pipe: RissolePipeline, recipe: Recipe, block: Block) -> Iterator[tuple[int, float]]:
    """Hides one neighbor after another from a block, and paints with the same seed.

    Args:
        pipe: what painted the picture.
        recipe: of the picture; of several repaints the one counts that painted the block.
        block: its (row, col).

    Yields:
        (neighbor, mean change of the block in levels of 255) for each that it sees. Nothing for an
        only neighbor: there is no picture without it.
    """
    layer, seen = seen_by(recipe, block)
    if len(seen) < 2:
        return
    own = {(row, col): ids for row, col, ids in layer.block_neighbors}
    init = None if layer.init is None else pipe(layer.init)
    usual = _pixels(pipe, layer, init, block)
    for item in seen:
        others = {**own, block: tuple(i for i in seen if i != item)}
        without = {**layer.to_dict(), "block_neighbors": others}
        changed = _pixels(pipe, Recipe.from_dict(without), init, block)
        yield item, float(np.abs(changed - usual).mean())


def _pixels(pipe: RissolePipeline, recipe: Recipe, init: Any, block: Block) -> np.ndarray:
    image = np.asarray(last_output(pipe.stream(recipe, init=init)).images[0], np.float32)
    side = len(image) // recipe.grid
    row, col = block
    return image[row * side : (row + 1) * side, col * side : (col + 1) * side]
