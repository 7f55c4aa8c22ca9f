"""What Python and JavaScript must agree on, computed by Python.

`python tests/export/both_languages.py` writes the file that the tests of both languages read.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rissole.app.links import decode, encode
from rissole.app.state import Picture, beneath, merged
from rissole.blocks import blend, crop_windows, inner
from rissole.config import Recipe, RissoleError
from rissole.models.interface import BlockDenoiser
from rissole.models.scheduler import default_scheduler, levels_of, started
from rissole.noise import normal
from rissole.sampling import Plan, network_calls, on_canvas, paint

FILE = Path(__file__).parents[1] / "golden" / "both_languages.json"
BASE = Recipe.validated(bundle="1f3a", database="77c0", neighbors=[3, 17, 5], seed=2**64 - 1)
RECIPES = (
    (BASE, None),
    (Recipe.validated(neighbors=[9], grid=1, guidance_scale=0, num_inference_steps=200), 17),
    (
        Recipe.validated(
            bundle="1f3a", neighbors=range(16), block_neighbors={(3, 3): [2, 4], (0, 1): [9]},
            order="sequential", guidance_scale=1.1, seed=2**53 + 1,
        ),
        0,
    ),
    (
        Recipe.validated(
            bundle="1f3a", database="77c0", neighbors=[4], blocks=[(1, 2), (0, 3)], init=BASE,
            order="independent", guidance_scale=0.00001,
        ),
        None,
    ),
    (Recipe.validated(neighbors=[4], block_neighbors={(1, 2): [9]}, strength=2.5), None),
)  # fmt: skip
REFUSED = (
    "", "b=1&d=2", "p=", "p=n", "p=n1..2", "p=n1~wx", "p=n1~z3", "p=n1~g3", "p=n1~oq", "p=n1~t0",
    "p=op", "p=n1&p=n1", "p=n1~x0", "p=n1~x9.9.1", "p=n1~s18446744073709551616",
    "p=caaaaaaaa~n1~op~g4~t20~w1.6~s0", "p=n1~r0.0", "p=n1~f5", "p=n1~fx",
    "p=n1~oAiogajhn~op", "p=n1~s1~s2",
    encode(RECIPES[3][0]).replace("p=c", "P=c", 1), encode(RECIPES[3][0]).rpartition("&p=c")[0],
    encode(RECIPES[2][0]).replace("s9007199254740993", "s9007199254740992"),
)  # fmt: skip
PAINTED: tuple[dict[str, Any], ...] = (
    {"order": "parallel", "grid": 4, "steps": 3, "scale": 1.6},
    {"order": "sequential", "grid": 2, "steps": 2, "scale": 1.6},
    {"order": "independent", "grid": 4, "steps": 3, "scale": 0.0},
    {"order": "parallel", "grid": 1, "steps": 5, "scale": 3.0, "flow_map": True},
    {"order": "sequential", "grid": 4, "steps": 2, "scale": 0.5, "flow_map": True,
     "blocks": [[1, 2], [0, 3]]},
    {"order": "parallel", "grid": 4, "steps": 3, "scale": 1.6, "blocks": [[1, 2], [1, 3]]},
)  # fmt: skip
# of a repaint, before every `p` had a checksum: one for all
OLDER = (
    "b=1f3a&d=77c0&p=cffnalghg~n3.17.5~op~g4~t20~w1.6~s18446744073709551615"
    "&p=n4~oi~g4~t20~w1e-05~s0~r0.3~r1.2"
)
PLAIN = ("p=n3.5~s1", "p=n3~g2~w2~t7~oi&other=1", "?p=n1~r1.1&p=n2", OLDER)


def made() -> dict[str, Any]:
    """Everything in the file."""
    return {
        "recipes": [
            {"link": encode(recipe, item), "item": item, "json": plain(recipe)}
            for recipe, item in RECIPES
        ],
        "plain": [{"link": link, "json": read(link)} for link in PLAIN],
        "refused": [link for link in REFUSED if refused(link)],
        "levels": [levels(steps, flow_map) for steps in (1, 2, 4, 7, 20) for flow_map in (0, 1)],
        "solver": [solver(steps, flow_map) for steps in (1, 2, 5) for flow_map in (0, 1)],
        "blocks": [laid(grid, group) for grid, group in ((1, [0]), (2, [0, 3]), (4, [5, 6, 15]))],
        "painted": [painting(**case) for case in PAINTED],
        "merged": joined(),
        "beneath": below(),
    }


def plain(recipe: Recipe) -> str:
    return json.dumps(recipe.to_dict(), sort_keys=True, allow_nan=False)


def read(link: str) -> str | None:
    try:
        return plain(decode(link, {"grid": 4, "guidance_scale": 3.0}))
    except RissoleError:
        return None


def refused(link: str) -> bool:
    try:
        decode(link)
    except RissoleError:
        return True
    return False


def numbers(values: Any) -> list:
    return [round(float(value), 5) for value in np.asarray(values).ravel()]


def levels(steps: int, flow_map: int) -> dict[str, Any]:
    run = started(default_scheduler(), steps, flow_map=bool(flow_map))
    calls = steps if flow_map else network_calls(default_scheduler(), steps, 1.6, 1)
    found = [level.time for level in levels_of(run)]
    return {"steps": steps, "flowMap": bool(flow_map), "levels": numbers(found), "calls": calls}


def solver(steps: int, flow_map: int) -> dict[str, Any]:
    """A run on answers that are noise of their own seeds."""
    run = started(default_scheduler(), steps, flow_map=bool(flow_map))
    sample = normal(0, (8,))
    for number, time in enumerate(run.timesteps, start=1):
        sample = run.step(normal(number, (8,)), time, sample).prev_sample
    return {"steps": steps, "flowMap": bool(flow_map), "sample": numbers(sample)}


def laid(grid: int, group: list[int], size: int = 16, halo: int = 4) -> dict[str, Any]:
    """Windows of noise, blended, and their blocks alone."""
    side = size if grid == 1 else size // grid + 2 * halo
    windows = normal(grid, (1, len(group), 2, side, side))
    alone = on_canvas(inner(windows, grid, halo), group, grid)
    together = blend(windows, torch.tensor(group), grid, halo)
    shape = {"grid": grid, "size": size, "halo": halo, "channels": 2}
    return {"shape": shape, "group": group, "blend": numbers(together), "alone": numbers(alone)}


class Echo(BlockDenoiser):
    """Answers with all that it is given, so that two loops can be compared by what they ask."""

    def __init__(self, flow_map: bool):
        super().__init__()
        self.config = SimpleNamespace(halo=2, flow_map=flow_map)
        self.one = torch.nn.Parameter(torch.ones(()))

    def encode_neighbors(self, latents):
        return latents

    def forward(self, state, features, visible, index, weights=False):
        grid, k = state.levels.shape[-1], visible.shape[-1]
        seen = (visible * torch.arange(1.0, k + 1)).sum(-1)
        told = state.levels + 0.1 * state.present + 0.2 * state.context + 0.03 * seen
        if self.flow_map:
            told = told - 0.5 * state.aims.ends + 0.01 * state.aims.guidance
        windows = crop_windows(0.3 * state.canvas, grid, self.config.halo)[:, index[0]]
        windows = windows + told.flatten(1)[:, index[0], None, None, None]
        share = visible.flatten(1, 2)[:, index[0], :, None, None] / k
        half = windows.shape[-1] // 2
        return windows, share.expand(-1, -1, -1, half, half)


def painting(
    order: str, grid: int, steps: int, scale: float, flow_map: bool = False, blocks: Any = ()
) -> dict[str, Any]:
    """How a loop on an `Echo` ends; two neighbors, of which each block sees one or both."""
    visible = torch.ones(1, grid, grid, 2, dtype=torch.bool)
    visible[0, 0, :, 1] = False
    noise, init = normal(1, (1, 2, 16, 16)), normal(2, (1, 2, 16, 16))
    plan = Plan(noise, None, visible, scale, steps, order, init if blocks else None, blocks)
    *_, last = paint(Echo(flow_map), default_scheduler(), plan)
    settings = {"order": order, "grid": grid, "steps": steps, "scale": scale, "blocks": blocks}
    return settings | {
        "flowMap": flow_map, "calls": last.network_calls,
        "estimate": numbers(last.estimate)[::5], "attention": numbers(last.attention)[::5],
    }  # fmt: skip


def joined() -> dict[str, Any]:
    """The shares of one repainted block among those of the picture it is in."""
    before, after = normal(1, (3, 4, 4)).abs().numpy(), normal(2, (2, 4, 4)).abs().numpy()
    before[2, :, 2:] = 0
    picture = Picture(None, {}, [5, 8, 2], before)  # type: ignore[arg-type]
    ids, shares = merged(picture, [8, 9], after, [(0, 1), (1, 0)], 2)
    return {"ids": ids, "shares": numbers(shares)}


def below() -> list[dict[str, Any]]:
    """What a repaint of some blocks starts from: whether from the picture on show."""
    last = RECIPES[3][0]
    cases = ([(1, 2)], [(1, 2), (0, 3)], [(1, 2), (0, 3), (0, 0)], [(2, 2)])
    return [{"blocks": blocks, "itself": beneath(last, blocks) is last} for blocks in cases]


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n")
