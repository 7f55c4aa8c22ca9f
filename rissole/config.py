"""Errors and the recipe: everything that determines a picture, validated in one place."""

from __future__ import annotations

import contextlib
import operator
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import islice
from numbers import Real
from typing import Any

ORDERS = ("parallel", "sequential", "independent")
GRIDS = (1, 2, 4)
MAX_NEIGHBORS = 16
MAX_STEPS = 200
MAX_GUIDANCE_SCALE = 20.0
MAX_STRENGTH = 4.0
MAX_SEED = 2**64 - 1
NUM_INFERENCE_STEPS = 20  # these two: of new bundles, and what comparisons start from
GUIDANCE_SCALE = 1.6
QUOTES = "'\""
QUOTED = 40  # characters of what somebody sent, at most, in a message
MOST_LISTED = 1000  # of anything that may be given twice
MAX_REPAINTS = 16  # one on top of another: each of them is painted again to make the picture
_DIGITS = re.compile(r"\s*\d{1,4}\s*", re.ASCII)


class RissoleError(ValueError):
    """A mistake the user can mend. Its text is one clear line, shown as it is by CLI and app."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines one picture.

    Attributes:
        bundle: fingerprint of the weights (autoencoder, denoiser and scheduler); None if unknown.
        database: fingerprint of the retrieval database; None if unknown.
        neighbors: database ids that condition every block. A set: order has no effect.
        block_neighbors: `(row, col, ids)` for blocks with neighbors of their own.
        order: "parallel", "sequential" or "independent".
        grid: blocks per side, 1, 2 or 4.
        num_inference_steps: denoising steps of each block, 1 to 200.
        guidance_scale: 1 is unguided; above, away from what the network would paint knowing less;
            0 as if there were no neighbors.
        seed: the noise of every block is its crop of the canvas noise of this seed.
        strength: how much blocks with neighbors of their own follow them: 1 as the network does by
            itself, above more, below less, 0 as if they had those of the picture.
        blocks: blocks that were repainted; empty for a whole picture.
        init: recipe of the picture whose other blocks were kept, when `blocks` is not empty.
    """

    bundle: str | None
    database: str | None
    neighbors: tuple[int, ...]
    block_neighbors: tuple[tuple[int, int, tuple[int, ...]], ...] = ()
    order: str = "parallel"
    grid: int = 4
    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE
    seed: int = 0
    strength: float = 1.0
    blocks: tuple[tuple[int, int], ...] = ()
    init: Recipe | None = None

    @classmethod
    def validated(cls, /, **raw: Any) -> Recipe:
        """Builds a recipe from values that may come from anywhere.

        Args:
            **raw: one value per attribute; those left out are as above, whatever a bundle's own
                are (`RissolePipeline.recipe` knows these). `block_neighbors` may also be a mapping
                `{(row, col): ids}` or, as JSON has it, `{"row,col": ids}`.

        Raises:
            RissoleError: with one line that names the value and what is allowed.
        """
        unknown = set(raw) - {f.name for f in fields(cls)}
        if unknown:
            raise RissoleError(f"unknown setting: {quoted(min(unknown)).strip(QUOTES)}")
        raw = {f.name: f.default for f in fields(cls) if f.default is not MISSING} | raw
        order, grid = raw["order"], whole_number(raw["grid"], "grid", 1, max(GRIDS))
        if not isinstance(order, str) or order not in ORDERS:
            raise RissoleError(f"order must be one of {', '.join(ORDERS)}, not {quoted(order)}")
        if grid not in GRIDS:
            raise RissoleError(f"grid must be 1, 2 or 4, not {grid}")
        blocks = tuple(sorted({_position(p, grid) for p in _sequence(raw["blocks"], "blocks")}))
        init = raw["init"]
        if bool(blocks) != (init is not None):
            raise RissoleError("blocks and init belong together: give both or neither")
        check_repaints(init)
        if init is not None and not isinstance(init, Recipe):
            init = cls.from_dict(init)
        return cls(
            bundle=_fingerprint(raw.get("bundle"), "bundle"),
            database=_fingerprint(raw.get("database"), "database"),
            neighbors=_ids(raw.get("neighbors"), "neighbors"),
            block_neighbors=_block_neighbors(raw["block_neighbors"], grid),
            order=order,
            grid=grid,
            num_inference_steps=whole_number(
                raw["num_inference_steps"], "num_inference_steps", 1, MAX_STEPS
            ),
            guidance_scale=_real(raw["guidance_scale"], "guidance_scale", 0.0, MAX_GUIDANCE_SCALE),
            seed=whole_number(raw["seed"], "seed", 0, MAX_SEED),
            strength=_real(raw["strength"], "strength", 0.0, MAX_STRENGTH),
            blocks=blocks,
            init=init,
        )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values; `pipe(**recipe)` paints the picture again.

        A usual strength is left out, so that recipes without one can be read by what is older.
        """
        data = asdict(self)
        if self.strength == 1:
            del data["strength"]
        data["neighbors"] = list(self.neighbors)
        data["block_neighbors"] = {f"{r},{c}": list(ids) for r, c, ids in self.block_neighbors}
        data["blocks"] = [list(p) for p in self.blocks]
        data["init"] = self.init.to_dict() if self.init else None
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`, with the same checks as `validated`."""
        if not isinstance(data, Mapping):
            raise RissoleError(f"a recipe must be a mapping of settings, not {quoted(data)}")
        return cls.validated(**named(data))

    @property
    def layers(self) -> tuple[Recipe, ...]:
        """The whole picture that this one starts from, then every repaint upon it, itself last."""
        return (*(self.init.layers if self.init else ()), self)

    def stamped(self, bundle: str | None, database: str | None) -> Recipe:
        """The same recipe, and all that it is painted upon, with another origin."""
        init = self.init.stamped(bundle, database) if self.init else None
        return replace(self, bundle=bundle, database=database, init=init)

    @property
    def all_neighbors(self) -> tuple[int, ...]:
        """Every neighbor id that any block uses, in the column order of `attention`."""
        extra = (i for _, _, ids in self.block_neighbors for i in ids)
        return tuple(dict.fromkeys((*self.neighbors, *extra)))


def quoted(value: Any) -> str:
    """A value as a message quotes it: one line of at most 40 characters, whatever was sent."""
    if isinstance(value, int) and not -(10**36) < value < 10**36:
        return "a number of more than 36 digits"  # Python refuses to spell very long ones
    try:
        text = reprlib.repr(value) if isinstance(value, (list, tuple, dict, set)) else repr(value)
    except Exception:  # of very long numbers in a list, or of somebody's own class
        text = f"something of type {type(value).__name__}"
    text = " ".join(line.strip() for line in text.splitlines())  # arrays have a line for a row
    return text if len(text) <= QUOTED else text[: QUOTED - 3] + "..."


def whole_number(value: Any, name: str, low: int, high: int) -> int:
    """Checks a whole number that may come from anywhere.

    Raises:
        RissoleError: names it and its range.
    """
    number = _whole(value)
    if number is None:
        raise RissoleError(f"{name} must be a whole number, not {quoted(value)}")
    if not low <= number <= high:
        raise RissoleError(f"{name} must be from {low} to {high}, not {quoted(number)}")
    return number


def _whole(value: Any) -> int | None:
    """A whole number, also one of an array or tensor; None for what is none."""
    # arrays of several numbers raise one or another of these
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and value.is_integer():
            return int(value)  # 20.0 is what JSON and sliders send for 20
        if not isinstance(value, bool):  # which is an int to Python
            return operator.index(value)
    return None


def _real(value: Any, name: str, low: float, high: float) -> float:
    with contextlib.suppress(TypeError, ValueError, RuntimeError):  # arrays of several numbers
        value = value.item() if hasattr(value, "item") else value
    numeric = isinstance(value, Real) and not isinstance(value, bool)  # numpy's floats, too
    if not numeric:
        raise RissoleError(f"{name} must be a number, not {quoted(value)}")
    # also false for NaN; compared before it is made a float, which long numbers cannot be
    if not low <= value <= high:
        raise RissoleError(f"{name} must be from {low:g} to {high:g}, not {quoted(value)}")
    return float(value)


def iterated(value: Any, name: str) -> Iterator[Any]:
    """Goes through a list of any kind that may come from anywhere.

    Raises:
        RissoleError: when it is no list, before anything is read of it.
    """
    if not isinstance(value, (str, bytes, Mapping)):
        with contextlib.suppress(TypeError):  # also of an array that is a single number
            return iter(value)
    raise RissoleError(f"{name} must be a list, not {quoted(value)}")


def _sequence(value: Any, name: str, most: int = MOST_LISTED) -> list[Any]:
    """The values of a list that may come from anywhere, unless there are too many."""
    if value is None:
        return []
    values = list(islice(iterated(value, name), most + 1))
    if len(values) > most:
        raise RissoleError(f"{name} must be a list of at most {most}")
    return values


def named(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Settings by name, whatever somebody took for one."""
    return {name if isinstance(name, str) else quoted(name): v for name, v in settings.items()}


def _fingerprint(value: Any, name: str) -> str | None:
    if not isinstance(value, str | None):
        raise RissoleError(f"{name} must be a fingerprint, not {quoted(value)}")
    return value or None


def _ids(value: Any, name: str) -> tuple[int, ...]:
    listed = _sequence(value, name)
    ids = (whole_number(v, f"each of {name}", 0, 2**62) for v in listed)
    unique = tuple(dict.fromkeys(ids))
    if not 1 <= len(unique) <= MAX_NEIGHBORS:
        raise RissoleError(f"{name} must name 1 to {MAX_NEIGHBORS} images, not {len(unique)}")
    return unique


def check_repaints(init: Any) -> None:
    """Raises RissoleError for what is nested too deep, before anything recurses into it."""
    for _ in range(MAX_REPAINTS):
        if init is None:
            return
        init = init.get("init") if isinstance(init, Mapping) else getattr(init, "init", None)
    if init is not None:
        raise RissoleError(f"a picture can be repainted {MAX_REPAINTS} times, one upon another")


def _position(value: Any, grid: int) -> tuple[int, int]:
    if isinstance(value, str):
        value = tuple(int(p) if _DIGITS.fullmatch(p) else p for p in value.split(",", 2))
    pair = tuple(_sequence(value, "a block position", 3))
    if len(pair) != 2:
        raise RissoleError(f"a block position is (row, column), not {quoted(value)}")
    row, col = (whole_number(p, "a block's row and column", 0, grid - 1) for p in pair)
    return row, col


def _block_neighbors(value: Any, grid: int) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    name = "block_neighbors"
    if isinstance(value, Mapping):
        pairs = _sequence(value.items(), name)
        items = [(*_position(p, grid), ids) for p, ids in pairs]
    else:
        listed = _sequence(value, name)
        items = [tuple(_sequence(v, name)) for v in listed]
    if any(len(item) != 3 for item in items):
        raise RissoleError("block_neighbors must map (row, column) to a list of ids")
    chosen = {_position((r, c), grid): _ids(ids, "a block's neighbors") for r, c, ids in items}
    return tuple((r, c, chosen[r, c]) for r, c in sorted(chosen))
