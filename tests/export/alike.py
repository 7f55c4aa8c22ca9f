"""A picture of the exported page beside Python's."""

from __future__ import annotations

import numpy as np

from rissole.app.links import encode
from rissole.pipeline import RissolePipeline

PAINTED = """async ({base, link, threads}) => {
  const { Engine } = await import(`${base}export/web/engine.js`);
  const { decode } = await import(`${base}export/web/links.js`);
  if (!window.engine) {
    window.engine = await Engine.open(base);
    if (threads) await engine.networks.use({ kind: "wasm", threads });
  }
  const began = performance.now();
  let last;
  for await (const step of engine.paint(decode(link).recipe)) last = step;
  const painted = performance.now(), rgba = await engine.decode(last.estimate);
  const ended = performance.now();
  return { rgba: [...rgba], attention: [...last.attention], calls: last.calls,
    seconds: (ended - began) / 1e3, decoding: (ended - painted) / 1e3 };
}"""


def decibels(found: np.ndarray, known: np.ndarray) -> float:
    """How near two pictures are: the peak signal to noise ratio."""
    error = np.square(found.astype(np.float64) - known.astype(np.float64)).mean()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def shares_of(maps: list[float], grid: int, k: int) -> np.ndarray:
    """Shares (grid, grid, k) of the blocks from maps of k neighbors."""
    cells = round((len(maps) / k) ** 0.5)
    parts = np.array(maps).reshape(k, grid, cells // grid, grid, cells // grid)
    shares = parts.mean((2, 4)).transpose(1, 2, 0)
    return shares / np.maximum(shares.sum(-1, keepdims=True), 1e-12)


def beside_python(page, address: str, out, threads: int | None = None) -> dict:
    """Paints the recipe of `out` in a page and compares.

    Args:
        page: a tab on the exported page; the engine is loaded where it is not yet.
        address: of the page.
        out: what float32 Python painted.
        threads: of WebAssembly, when the engine is loaded; None leaves the choice to it.

    Returns:
        `decibels`, `attention` (the largest difference), `calls`, `seconds` and `decoding`.
    """
    asked = {"base": address, "link": encode(out.checked[0]), "threads": threads}
    found = page.evaluate(PAINTED, asked)
    known = np.asarray(out.images[0])
    rgb = np.array(found.pop("rgba"), np.uint8).reshape(*known.shape[:2], 4)[..., :3]
    shares = shares_of(found["attention"], len(out.attention), len(out.neighbors))
    difference = np.abs(shares - out.attention).max()
    return {**found, "decibels": decibels(rgb, known), "attention": difference}


def check_alike(page, address: str, exact: RissolePipeline, settings: dict) -> None:
    """Paints a recipe on both sides; fails unless they agree."""
    out = exact(**settings)
    found = beside_python(page, address, out)
    assert found["decibels"] >= 60, settings
    assert found["attention"] <= 1e-3, settings
    assert found["calls"] == out.network_calls, settings
