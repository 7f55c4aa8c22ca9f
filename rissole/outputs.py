"""What comes out of a pipeline: finished pictures, and what a watcher sees after each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rissole.config import Recipe
from rissole.sampling import PaintStep, block_shares

EMPTY = 127  # gray level of blocks that are not painted yet
MARGIN = 4  # latent cells around a block that is decoded alone, for the decoder to look at


@dataclass(frozen=True)
class GenerationOutput:
    """Finished pictures.

    Attributes:
        images: the pictures.
        checked: for each picture the recipe that paints it again, `pipe(recipe)`.
        attention: (rows, cols, k), how much each block of the first picture listened to each of
            `neighbors`; every row adds up to 1.
        neighbors: database ids, the columns of `attention`.
        latents: (B, C, S, S).
        network_calls: evaluations of the denoiser for all pictures.
    """

    images: list[Image.Image]
    checked: list[Recipe]
    attention: np.ndarray
    neighbors: list[int]
    latents: Tensor = field(repr=False)
    network_calls: int

    @property
    def recipe(self) -> dict[str, Any]:
        """Recipe of the first picture as JSON-ready values, `pipe(**recipe)`."""
        return self.checked[0].to_dict()

    @property
    def recipes(self) -> list[dict[str, Any]]:
        """Recipes of all pictures as JSON-ready values."""
        return [recipe.to_dict() for recipe in self.checked]

    @classmethod
    def joined(cls, outputs: Sequence[GenerationOutput]) -> GenerationOutput:
        """Several outputs as one."""
        return cls(
            images=[image for out in outputs for image in out.images],
            checked=[recipe for out in outputs for recipe in out.checked],
            attention=outputs[0].attention,
            neighbors=outputs[0].neighbors,
            latents=torch.cat([out.latents for out in outputs]),
            network_calls=sum(out.network_calls for out in outputs),
        )


class BlockStep:
    """What a watcher sees after one denoising step.

    Attributes:
        position: (row, col) of the block being painted, None when all are.
        index, num_blocks: "block `index` of `num_blocks`".
        step, total_steps: within the block.
        neighbors: database ids, the columns of `attention`.
        done, active: bool (rows, cols), blocks that are finished and that are being painted.
        network_calls: evaluations of the denoiser so far.
        output: the finished picture, on the very last step.
    """

    def __init__(self, step: PaintStep, previews: Previews, recipe: Recipe):
        self.position, self.index, self.num_blocks = step.position, step.index, step.num_blocks
        self.step, self.total_steps = step.step, step.total_steps
        self.network_calls, self.neighbors = step.network_calls, list(recipe.all_neighbors)
        self.done, self.active = step.done.numpy(), step.active.numpy()
        self.output: GenerationOutput | None = None
        self._step, self._previews = step, previews
        if step.is_last:
            self.output = GenerationOutput(
                images=[self.preview],
                checked=[recipe],
                attention=self.attention,
                neighbors=self.neighbors,
                latents=step.estimate.cpu(),
                network_calls=step.network_calls,
            )

    @cached_property
    def attention(self) -> np.ndarray:
        """(rows, cols, k): shares of the neighbors so far; zeros for blocks not begun."""
        shares = block_shares(self._step.attention, len(self.done))[0]
        return shares[..., self._columns].cpu().numpy()

    @cached_property
    def attention_map(self) -> np.ndarray:
        """(k, cells, cells): share of each neighbor on each cell of the canvas so far.

        Zeros where nothing is painted. A cell's shares add up to at most 1: the rest went to none
        of them.
        """
        return self._step.attention[0][self._columns].cpu().numpy()

    @property
    def latents(self) -> np.ndarray:
        """(C, S, S), the clean latent as far as it can be told."""
        return self._step.estimate[0].float().cpu().numpy()

    @cached_property
    def preview(self) -> Image.Image:
        """The picture as far as it can be told, decoded on first use; gray where nothing is."""
        image = self._previews.decode(self._step)
        side = image.shape[0] // len(self.done)
        seen = (self.done | self.active).repeat(side, 0).repeat(side, 1)
        image[~seen] = EMPTY
        return Image.fromarray(image)

    @property
    def _columns(self) -> list[int]:
        """Where each of `neighbors` stands among those the network saw, which are in order."""
        seen = sorted(self.neighbors)
        return [seen.index(i) for i in self.neighbors]


def last_output(steps: Iterable[BlockStep]) -> GenerationOutput:
    """Runs to the end; what the last step carries."""
    output = deque(steps, maxlen=1)[0].output
    assert output is not None
    return output


class Decoder(Protocol):
    """Makes pictures of latents, see `RissolePipeline.decode`."""

    def __call__(self, latents: Tensor, draft: bool = False) -> list[Image.Image]:
        """Pictures of latents (B, C, S, S); a draft may be a level or two off."""


class Previews:
    """Decodes the steps of one run.

    While a single block is painted, its surroundings stay as they are: they are decoded once per
    block, and then only the block with a margin, a quarter of the work.
    """

    def __init__(self, decode: Decoder):
        self._decode = decode
        self._around: dict[int, np.ndarray] = {}

    def decode(self, step: PaintStep) -> np.ndarray:
        """uint8 (H, W, 3)."""
        alone = step.position is not None and step.step < step.total_steps
        if alone and step.index in self._around:
            return self._with_block(self._around[step.index].copy(), step)
        image = np.array(self._decode(step.estimate, draft=not step.is_last)[0])
        if alone:
            self._around[step.index] = image.copy()
        return image

    def _with_block(self, image: np.ndarray, step: PaintStep) -> np.ndarray:
        assert step.position is not None
        size = step.estimate.shape[-1]
        cells = size // len(step.done)
        (top, bottom, above), (left, right, before) = (
            (max(0, p * cells - MARGIN), min(size, (p + 1) * cells + MARGIN), p * cells)
            for p in step.position
        )
        crop = step.estimate[..., top:bottom, left:right]
        pixels = np.array(self._decode(crop, draft=True)[0])
        f = image.shape[0] // size
        y, x, side = (above - top) * f, (before - left) * f, cells * f
        block = pixels[y : y + side, x : x + side]
        image[above * f : above * f + side, before * f : before * f + side] = block
        return image
