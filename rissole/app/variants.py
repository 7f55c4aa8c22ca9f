"""Side by side: the same picture by other ways and with other settings.

Everything here is a recipe: `variants` and `cross` make them from one, and `run` paints them one by
one and measures each.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from rissole.config import GRIDS, MAX_NEIGHBORS, ORDERS, Recipe, RissoleError
from rissole.data.images import to_tensor
from rissole.evaluation.seams import seam_ratio
from rissole.pipeline import RissolePipeline

VARIANTS = ("published", "alone", "sequential", "parallel")
SETTINGS = {
    "k": "k",
    "guidance": "guidance_scale",
    "steps": "num_inference_steps",
    "order": "order",
    "grid": "grid",
    "seed": "seed",
}
MAX_VALUES = 6  # of one axis


@dataclass(frozen=True)
class Axis:
    """One setting and the values it takes.

    Attributes:
        setting: a key of `SETTINGS`; "k" counts neighbors, the nearest first.
        values: 1 to `MAX_VALUES` of them.
    """

    setting: str
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, setting: Any, text: Any) -> Axis:
        """Reads values separated by commas, as a visitor types them.

        Raises:
            RissoleError: for another setting, no value, too many, or one twice.
        """
        if setting not in SETTINGS:
            raise RissoleError(f"a setting to compare is one of {', '.join(SETTINGS)}")
        parts = [part.strip() for part in str(text or "").split(",") if part.strip()]
        values = tuple(_typed(setting, part) for part in parts)
        if not 1 <= len(values) <= MAX_VALUES or len(set(values)) < len(values):
            raise RissoleError(f"{setting}: give 1 to {MAX_VALUES} different values, with commas")
        return cls(setting, values)

    @property
    def labels(self) -> tuple[str, ...]:
        """What to write beside each value."""
        return tuple(f"{self.setting} {spelled(value)}" for value in self.values)


@dataclass(frozen=True)
class Result:
    """A painted recipe with what it took.

    Attributes:
        recipe: what was painted.
        image: the picture.
        seconds: wall time of the painting, previews left out.
        network_calls: evaluations of the denoiser.
        seam_ratio: jump across block borders / beside them; None for a 1x1 grid, without borders.
    """

    recipe: Recipe
    image: Image.Image
    seconds: float
    network_calls: int
    seam_ratio: float | None


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The same query and seed in four ways, by the names of `VARIANTS`.

    "published" paints blocks that do not see each other; "alone" has no neighbors (a guidance
    scale of 0 leaves only the network's answer without any), otherwise as "parallel".

    Args:
        recipe: of a picture; of one with repaints the picture before them counts.
    """
    base = recipe.layers[0]
    return {
        "published": replace(base, order="independent"),
        "alone": replace(base, order="parallel", guidance_scale=0.0),
        "sequential": replace(base, order="sequential"),
        "parallel": replace(base, order="parallel"),
    }


def cross(recipe: Recipe, x: Axis, y: Axis, candidates: Sequence[int] = ()) -> list[list[Recipe]]:
    """A recipe for every pair of values: rows follow `y`, columns `x`.

    Args:
        recipe: whatever the axes leave alone is as here.
        x, y: two different settings.
        candidates: neighbors to take the first k of, the nearest first; else those of `recipe`.

    Raises:
        RissoleError: when both axes are one setting, or a value is out of range.
    """
    if x.setting == y.setting:
        raise RissoleError("choose two different settings to compare")
    base, pool = recipe.layers[0], tuple(candidates) or recipe.layers[0].neighbors
    return [
        [_with(_with(base, y.setting, row, pool), x.setting, column, pool) for column in x.values]
        for row in y.values
    ]


def run(
    pipe: RissolePipeline, recipes: Sequence[Recipe]
) -> Generator[tuple[int, float, Result | None], None, None]:
    """Paints recipes one after another; close the iterator to stop.

    Yields:
        (which recipe, share of it that is done from 0 to 1, its result once it is finished)
    """
    for index, recipe in enumerate(recipes):
        began = time.perf_counter()
        for step in pipe.stream(recipe):
            if step.output is None:
                done = (step.index - 1 + step.step / step.total_steps) / step.num_blocks
                yield index, done, None
                continue
            image, seconds = step.output.images[0], time.perf_counter() - began
            calls = step.output.network_calls
            yield index, 1.0, Result(recipe, image, seconds, calls, seams(image, recipe.grid))


def spelled(value: Any) -> str:
    """A value as one writes it: 3 for 3.0."""
    return str(value).removesuffix(".0")


def seams(image: Image.Image, grid: int) -> float | None:
    """The seam ratio of a picture, see `evaluation.seam_ratio`; None where it has no borders."""
    if grid < 2 or min(image.size) < 8 * grid:
        return None
    return seam_ratio(to_tensor(image), grid)


def _with(recipe: Recipe, setting: str, value: Any, pool: tuple[int, ...]) -> Recipe:
    if setting != "k":
        changes = {SETTINGS[setting]: value}
    elif 1 <= value <= len(pool):
        changes = {"neighbors": pool[:value]}
    else:
        raise RissoleError(f"k must be from 1 to {min(len(pool), MAX_NEIGHBORS)}, not {value}")
    if setting == "grid" and value != recipe.grid:
        changes["block_neighbors"] = ()  # they belong to blocks of the other grid
    return Recipe.from_dict({**recipe.to_dict(), **changes})


def _typed(setting: str, text: str) -> Any:
    if setting == "order":
        found = [order for order in ORDERS if order.startswith(text.lower())]
        if len(found) != 1:
            raise RissoleError(f"order must be one of {', '.join(ORDERS)}, not {text[:40]}")
        return found[0]
    try:
        return float(text) if setting == "guidance" else int(text)
    except ValueError:
        kind = "numbers" if setting == "guidance" else "whole numbers"
        hint = f" ({', '.join(map(str, GRIDS))})" if setting == "grid" else ""
        raise RissoleError(f"{setting} takes {kind}{hint}, not {text[:40]}") from None
