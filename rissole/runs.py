"""One painting with all that happened on the way, to look into and to keep.

Example:
    >>> run = record(pipe.stream(pipe.retrieve(item=17), seed=0))
    >>> run.save("cat.npz")
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rissole.config import Recipe, RissoleError
from rissole.outputs import BlockStep, GenerationOutput
from rissole.storage.files import write_atomic

KINDS = (".npz", ".json", ".csv")


@dataclass(frozen=True)
class Run:
    """What each of T steps showed.

    Attributes:
        output: the finished picture.
        neighbors: database ids, in the order of every `k` below.
        scores: similarity of the query to those whose it is known.
        positions: (row, col) of the block that was painted; None where all were.
        latents: (T, C, S, S), the clean latent as far as it could be told.
        attention: (T, k, cells, cells), share of each neighbor on each cell so far.
        calls: (T,), evaluations of the denoiser so far.
    """

    output: GenerationOutput
    neighbors: list[int]
    scores: dict[int, float]
    positions: list[tuple[int, int] | None]
    latents: np.ndarray
    attention: np.ndarray
    calls: np.ndarray

    def save(self, path: str | Path) -> None:
        """Writes the run as the name says: `.npz` and `.json` all of it, `.csv` the shares.

        Raises:
            RissoleError: for another name, or where it cannot be written.
        """
        file = Path(path)
        if file.suffix not in KINDS:
            raise RissoleError(f"a run is saved as {', '.join(KINDS)}, not {file.name[:40]!r}")
        write_atomic(file, self.encoded(file.suffix))

    def encoded(self, kind: str) -> bytes:
        """The bytes of a file of a kind: ".npz", ".json" or ".csv"."""
        if kind == ".npz":
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {"recipe": json.dumps(self.output.recipe), **self._arrays()}
            np.savez_compressed(buffer, **arrays)
            return buffer.getvalue()
        if kind == ".json":
            return "".join(self._json()).encode()
        return self._table().encode()

    def _json(self) -> Iterator[str]:
        """Row by row: numbers as Python has them take ten times the room, all at once a GB."""
        yield f'{{"recipe": {json.dumps(self.output.recipe)}'
        for name, values in self._arrays().items():
            yield f', "{name}": ['
            for number, row in enumerate(values):
                yield ", " * (number > 0) + json.dumps(row.tolist(), allow_nan=False)
            yield "]"
        yield "}"

    def _arrays(self) -> dict[str, np.ndarray]:
        known = [self.scores.get(i, -2.0) for i in self.neighbors]  # cosines are from -1 on
        return {
            "neighbors": np.array(self.neighbors),
            "scores": np.array(known),
            "positions": np.array([at or (-1, -1) for at in self.positions]),
            "latents": self.latents,
            "attention": self.attention,
            "shares": self.output.attention,
            "network_calls": self.calls,
        }

    def _table(self) -> str:
        """The shares of the finished picture, a line for each block and neighbor."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["row", "column", "neighbor", "share", "similarity"])
        for row, col in np.ndindex(self.output.attention.shape[:2]):
            for item, share in zip(self.neighbors, self.output.attention[row, col], strict=True):
                score = self.scores.get(item)
                known = "" if score is None else f"{score:.6f}"
                table.writerow([row + 1, col + 1, item, f"{share:.6f}", known])
        return text.getvalue()


def record(steps: Iterable[BlockStep], scores: Mapping[int, float] | None = None) -> Run:
    """Watches a painting to its end, see `RissolePipeline.stream`.

    Args:
        steps: of the painting; some 30 KB are kept of each.
        scores: similarity of the query to database ids, as in `Hits`.
    """
    seen: list[tuple[Any, ...]] = []
    output = None
    for step in steps:
        seen.append((step.position, step.latents, step.attention_map, step.network_calls))
        output = step.output
    assert output is not None  # the last step of a stream carries it
    positions, latents, attention, calls = zip(*seen, strict=True)
    return Run(
        output,
        output.neighbors,
        {i: float(score) for i, score in (scores or {}).items()},
        list(positions),
        np.stack(latents),
        np.stack(attention),
        np.array(calls),
    )


def numbers_of(recipe: Recipe, shape: tuple[int, int, int]) -> int:
    """How many numbers a `Run` will keep of all steps of a recipe, told before it is painted.

    Args:
        recipe: what to paint; what it is painted upon is not kept.
        shape: (C, S, S) of the canvas.
    """
    channels, side, _ = shape
    blocks = (len(recipe.blocks) or recipe.grid**2) if recipe.order == "sequential" else 1
    shares = len(recipe.all_neighbors) * (side // 2) ** 2
    return blocks * recipe.num_inference_steps * (channels * side**2 + shares)


def as_python(recipe: Mapping[str, Any], bundle: str) -> str:
    """A program that paints a recipe again, for people to read and change.

    Args:
        recipe: as `Recipe.to_dict` gives it.
        bundle: name, folder or repository of the bundle.
    """
    layers = [recipe]
    while layers[0]["init"] is not None:
        layers.insert(0, layers[0]["init"])
    lines = [
        "from rissole import RissolePipeline",
        "",
        f"pipe = RissolePipeline.from_pretrained({bundle!r})",
    ]
    for number, layer in enumerate(layers):
        # where it comes from is checked when it is painted; what is empty is as usual
        given = {name: value for name, value in layer.items() if value not in (None, [], {})}
        if number:
            given["init"] = "out"
        lines.append("out = pipe(")
        for name, value in given.items():
            lines.append(f"    {name}={'out' if name == 'init' else repr(value)},")
        lines.append(")")
    lines.append(f'out.images[0].save("rissole-{layers[-1]["seed"]}.png")')
    return "\n".join(lines) + "\n"
