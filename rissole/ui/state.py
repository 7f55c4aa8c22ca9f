"""What the page remembers of one visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from rissole.config import Recipe
from rissole.pipeline import BlockStep, GenerationOutput

PICTURES_KEPT = 8  # of each visit, to go back to; some 70 KB each


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture of a visit.

    Attributes:
        output: what the pipeline made.
        message: the last message to the canvas, without the picture itself.
        ids: every neighbour that a block of the picture listens to.
        attention: (rows, cols, len(ids)), its shares; zero where a block does not see it.
    """

    output: GenerationOutput
    message: dict[str, Any]
    ids: list[int]
    attention: np.ndarray

    @property
    def recipe(self) -> Recipe:
        """What paints it again."""
        return Recipe.from_dict(self.output.recipe)


@dataclass(frozen=True, eq=False)
class Visit:
    """Everything the server remembers of one visit; events put a changed copy in its place.

    Attributes:
        query: what was searched with: `{"item": 17}`, `{"image": PIL}`, or nothing yet.
        pictures: the finished pictures, oldest first, to repaint and to go back to.
    """

    query: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()


def place(kept: Sequence[Picture], event: gr.EventData) -> int:
    """Where the picture on show stands among those kept; one that was stopped stands last."""
    runs = [picture.message["run"] for picture in kept]
    shown = getattr(event, "run", None)
    return runs.index(shown) if shown in runs else len(runs)


def merged(
    before: Picture, ids: list[int], attention: np.ndarray, block: tuple[int, int]
) -> tuple[list[int], np.ndarray]:
    """The shares of a repainted block among those of the picture it was in.

    Args:
        before: the picture.
        ids: neighbours of the repaint.
        attention: (rows, cols, len(ids)), of which only `block` counts.
        block: (row, col).

    Returns:
        (neighbours that some block listens to, attention with one column for each)
    """
    every = np.array(list(dict.fromkeys((*before.ids, *ids))))
    shares = np.zeros((*attention.shape[:2], len(every)), np.float32)
    shares[..., : len(before.ids)] = before.attention
    shares[block] = 0
    shares[block][[every.tolist().index(i) for i in ids]] = attention[block]
    heard = shares.any((0, 1))
    return every[heard].tolist(), shares[..., heard]


def shares_of(
    step: BlockStep, recipe: Recipe, before: Picture | None
) -> tuple[list[int], np.ndarray]:
    """(neighbours to show, attention with one column for each) after a step."""
    if before is None:
        return step.neighbors, step.attention
    return merged(before, step.neighbors, step.attention, recipe.blocks[0])


def beneath(recipe: Recipe, block: tuple[int, int]) -> Recipe:
    """What to repaint a block on: the picture, or the one before where it changed just that block.

    What was in the block has no effect on what is painted there, so that trying one block again
    and again makes no longer recipe.
    """
    return recipe.init if recipe.init is not None and recipe.blocks == (block,) else recipe
