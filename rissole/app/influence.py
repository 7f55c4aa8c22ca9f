"""What each neighbor did to a block, measured: the picture is painted again without it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from rissole.app.pace import Tick
from rissole.app.state import Block
from rissole.config import Recipe
from rissole.outputs import GenerationOutput
from rissole.pipeline import RissolePipeline


@dataclass(frozen=True)
class Hiding:
    """What is painted to tell what each neighbor did to a block.

    Attributes:
        usual: the layer that painted the block; of several repaints the last.
        without: that layer without each neighbor that the block saw. Nothing for an only one:
            there is no picture without it.
    """

    usual: Recipe
    without: dict[int, Recipe]

    @classmethod
    def of(cls, recipe: Recipe, block: Block) -> Hiding:
        """Of a block, its (row, col), of the picture of a recipe."""
        layer = next(r for r in reversed(recipe.layers) if not r.blocks or block in r.blocks)
        own = {(row, col): ids for row, col, ids in layer.block_neighbors}
        seen = own.get(block, layer.neighbors)
        others = {item: tuple(i for i in seen if i != item) for item in seen}
        values = layer.to_dict()
        without = {
            item: Recipe.from_dict({**values, "block_neighbors": {**own, block: left}})
            for item, left in others.items()
            if left
        }
        return cls(layer, without)

    def layers(self, at_hand: bool) -> list[Recipe]:
        """All that `influence` paints; `at_hand` says whether what is beneath is."""
        if not self.without:
            return []
        beneath = self.usual.layers[:-1]
        return [*(() if at_hand else beneath), self.usual, *self.without.values()]


def influence(
    pipe: RissolePipeline, hiding: Hiding, block: Block, beneath: GenerationOutput | None = None
) -> Iterator[Tick | tuple[int, float]]:
    """Hides one neighbor after another from a block, and paints with the same seed.

    Args:
        pipe: what painted the picture.
        hiding: of the picture and the block.
        block: its (row, col).
        beneath: the picture that the layer was painted upon, if it is at hand.

    Yields:
        (neighbor, mean change of the block in levels of 255) for each that it sees, and a tick
        after each step.
    """
    if not hiding.without:
        return
    for layer in hiding.usual.layers[:-1] if beneath is None else ():
        beneath = yield from _painted(pipe, layer, beneath)
    usual = _pixels((yield from _painted(pipe, hiding.usual, beneath)), block)
    for item, without in hiding.without.items():
        changed = _pixels((yield from _painted(pipe, without, beneath)), block)
        yield item, float(np.abs(changed - usual).mean())


def _painted(
    pipe: RissolePipeline, recipe: Recipe, init: GenerationOutput | None
) -> Generator[Tick, None, GenerationOutput]:
    output = None
    with contextlib.closing(pipe.stream(recipe, init=init)) as steps:
        for step in steps:
            output = step.output
            yield Tick()
    assert output is not None  # the last step of a stream carries it
    return output


def _pixels(output: GenerationOutput, block: Block) -> np.ndarray:
    image = np.asarray(output.images[0], np.float32)
    side, (row, col) = len(image) // output.checked[0].grid, block
    return image[row * side : (row + 1) * side, col * side : (col + 1) * side]
