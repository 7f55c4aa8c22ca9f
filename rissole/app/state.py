"""What the page remembers of one visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from rissole.app.sizes import held
from rissole.config import Recipe
from rissole.outputs import BlockStep, GenerationOutput

PICTURES_KEPT = 8  # of each visit, to go back to; some 70 KB each

Block = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched with: one of these, or nothing for a random picture.

    Attributes:
        item: a picture of the gallery.
        image: a picture from elsewhere.
        text: words.
        painted: whether `image` was painted here.
    """

    item: int | None = None
    image: Image.Image | None = None
    text: str | None = None
    painted: bool = False

    @property
    def near(self) -> Image.Image | int | None:
        """What pictures can be compared with, where it is not `text`."""
        return self.image if self.item is None else self.item

    def arguments(self) -> dict[str, Any]:
        """As `RissolePipeline.retrieve` takes it."""
        given = {"item": self.item, "image": self.image, "text": self.text}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture of a visit.

    Attributes:
        output: what the pipeline made.
        message: the last message to the canvas, without the picture itself.
        ids: every neighbor that a block of the picture listens to.
        attention: (len(ids), cells, cells), its shares; zero where a cell does not see it.
        query: what was searched with.
        neighbors: the value of the neighbors it was painted with, see `choose.Choosing`.
    """

    output: GenerationOutput
    message: dict[str, Any]
    ids: list[int]
    attention: np.ndarray
    query: Query = Query()
    neighbors: Any = None

    @property
    def recipe(self) -> Recipe:
        """What paints it again."""
        return self.output.checked[0]


@dataclass(frozen=True, eq=False)
class Visit:
    """Everything the server remembers of one visit; events put a changed copy in its place.

    Attributes:
        query: what was searched with.
        pictures: the finished pictures, oldest first, to repaint and to go back to.
        source: key of the database in use, see `sources.Sources`; None for the first one.
        label: the class that is searched alone.
        encoder: what pictures are compared by; None as shipped.
        photos: key of the visitor's own photos, in use or not.
        skipped: files of theirs that were no pictures, and why.
        neighbors: the value of the neighbors that the next picture is painted with, as far as it
            is remembered, see `choose.remembered`.
    """

    query: Query = Query()
    pictures: tuple[Picture, ...] = ()
    source: str | None = None
    label: str | None = None
    encoder: str | None = None
    photos: str | None = None
    skipped: tuple[str, ...] = ()
    neighbors: Any = None

    def painted(self, recipe: Recipe | None) -> Picture | None:
        """The picture of a recipe, if it is one of those kept."""
        return next((one for one in self.pictures if one.recipe == recipe), None)

    @property
    def size(self) -> int:
        """Bytes; databases of its own are counted where they are kept."""
        return held(self)


def place(kept: Sequence[Picture], event: gr.EventData) -> int:
    """Where the picture on show stands among those kept; one that was stopped stands last."""
    runs = [picture.message["run"] for picture in kept]
    shown = getattr(event, "run", None)
    return runs.index(shown) if shown in runs else len(runs)


def merged(
    before: Picture, ids: list[int], attention: np.ndarray, blocks: Sequence[Block], grid: int
) -> tuple[list[int], np.ndarray]:
    """The shares of repainted blocks among those of the picture they were in.

    Args:
        before: the picture.
        ids: neighbors of the repaint.
        attention: (len(ids), cells, cells), of which only `blocks` count.
        blocks: (row, col) of what was repainted.
        grid: blocks per side.

    Returns:
        (neighbors that some block listens to, attention with one map for each)
    """
    every = np.array(list(dict.fromkeys((*before.ids, *ids))))
    shares = np.zeros((len(every), *attention.shape[1:]), np.float32)
    shares[: len(before.ids)] = before.attention
    rows = [every.tolist().index(i) for i in ids]
    side = attention.shape[-1] // grid
    for row, col in blocks:
        area = np.s_[:, row * side : (row + 1) * side, col * side : (col + 1) * side]
        shares[area] = 0
        for to, new in zip(rows, attention, strict=True):
            shares[to][area[1:]] = new[area[1:]]
    heard = shares.any((1, 2))
    return every[heard].tolist(), shares[heard]


def shares_of(
    step: BlockStep, recipe: Recipe, before: Picture | None
) -> tuple[list[int], np.ndarray]:
    """(neighbors to show, attention with one map for each) after a step."""
    if before is None:
        return step.neighbors, step.attention_map
    return merged(before, step.neighbors, step.attention_map, recipe.blocks, recipe.grid)


def beneath(recipe: Recipe, blocks: Sequence[Block]) -> Recipe:
    """What to repaint blocks on: the picture, or the one before where it changed only those.

    What was in a block has no effect on what is painted there, so that trying the same blocks
    again and again makes no longer recipe.
    """
    again = all(block in blocks for block in recipe.blocks)  # these are not checked yet
    return recipe.init if recipe.init is not None and again else recipe
