"""Whether a block follows a neighbor that is given to it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.evaluation.seams import seam_ratio
from rissole.pipeline import RissolePipeline
from rissole.retrieval.database import Hits

PAIRS, STRENGTHS = 64, (0.0, 1.0, 2.0)


class Pair(NamedTuple):
    """A picture to paint, one of its blocks, and what that block is given.

    Attributes:
        hits: the neighbors of all blocks.
        seed: of the picture.
        block: (row, col).
        item: number of a picture of the database.
    """

    hits: Hits
    seed: int
    block: tuple[int, int]
    item: int


def following(
    pipe: RissolePipeline,
    pairs: int = PAIRS,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> dict[str, Any]:
    """Gives one block of a picture another neighbor, and measures how its mean color moves.

    Args:
        pipe: paints, as its bundle ships.
        pairs: how many pictures, each with a block and a picture of the database at random.
        strengths: how much the block shall follow.
        seed: of all that is random.

    Returns:
        `pairs`; `seam_ratio` of the pictures as they were; and in `strengths` for each of them: the
        `share` of the way to the neighbor's own color that the block went (least squares over all
        pairs), how far the blocks that touch it moved beside it (`around`), and `seam_ratio`.

    Raises:
        RissoleError: of a bundle that paints in one block.
    """
    check_blocks(pipe)
    rng, grid = np.random.default_rng(seed), pipe.defaults["grid"]
    drawn = [_pair(pipe, rng, seed + n) for n in range(pairs)]
    plain = [_painted(pipe, pair) for pair in tqdm(drawn, "as they are", leave=False, disable=None)]
    given = [_colors(np.asarray(pipe.database.image(pair.item)), grid) for pair in drawn]
    found = {}
    for strength in strengths:
        bar = tqdm(drawn, f"strength {strength:g}", leave=False, disable=None)
        mixed = [_painted(pipe, pair, strength) for pair in bar]
        colors = [(_colors(a, grid), _colors(b, grid)) for a, b in zip(plain, mixed, strict=True)]
        moves = [(b - a, goal - a) for (a, b), goal in zip(colors, given, strict=True)]
        found[f"{strength:g}"] = {**_moved(moves, drawn), "seam_ratio": _seams(mixed, grid)}
    return {"pairs": pairs, "seam_ratio": _seams(plain, grid), "strengths": found}


def check_blocks(pipe: RissolePipeline) -> None:
    """Raises RissoleError of a bundle that paints in one block."""
    if pipe.defaults["grid"] == 1:
        raise RissoleError("influence is measured of single blocks, and this bundle paints one")


def _pair(pipe: RissolePipeline, rng: np.random.Generator, seed: int) -> Pair:
    row, col = rng.integers(pipe.defaults["grid"], size=2).tolist()
    item = int(rng.integers(len(pipe.database)))
    return Pair(pipe.retrieve(k=pipe.defaults["k"], seed=seed), seed, (row, col), item)


def _painted(pipe: RissolePipeline, pair: Pair, strength: float | None = None) -> np.ndarray:
    own = None if strength is None else {pair.block: [pair.item]}
    out = pipe(pair.hits, seed=pair.seed, block_neighbors=own, strength=strength)
    return np.asarray(out.images[0])


def _colors(picture: np.ndarray, grid: int) -> np.ndarray:
    """Mean color (grid, grid, 3) of each block of uint8 (H, W, 3)."""
    side = picture.shape[0] // grid
    return picture.reshape(grid, side, grid, side, 3).astype(np.float64).mean((1, 3))


def _moved(
    moves: Sequence[tuple[np.ndarray, np.ndarray]], drawn: Sequence[Pair]
) -> dict[str, float]:
    """How far the blocks, and those that touch them, went.

    Args:
        moves: of the colors of each picture, made and wanted, (grid, grid, 3).
        drawn: the pictures, with the block of each.
    """
    along = wanted = own = around = 0.0
    for (made, goal), pair in zip(moves, drawn, strict=True):
        row, col = pair.block
        square = (made**2).sum(-1)
        along += made[row, col] @ goal[row, col]
        wanted += goal[row, col] @ goal[row, col]
        own += square[row, col]
        touching = square[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
        around += (touching.sum() - square[row, col]) / (touching.size - 1)
    return {"share": float(along / wanted), "around": float((around / max(own, 1e-12)) ** 0.5)}


def _seams(pictures: Sequence[np.ndarray], grid: int) -> float:
    return seam_ratio(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), grid)
