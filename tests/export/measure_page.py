"""Seconds per picture of an exported page in Chromium, beside Python's in the same run.

    PYTHONPATH=.:tests python tests/export/measure_page.py PAGE --bundle cats-128 --calls 1 2 4 29

PAGE is a folder of `rissole export --web`. Each line says how near the browser's picture is to that
of float32 Python, and how far apart their attention is at most.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import sync_playwright
from test_static_page import decibels, serving

from rissole.app.links import encode
from rissole.pipeline import RissolePipeline

PAINT = """async ({base, link, threads}) => {
  const { Engine } = await import(`${base}export/web/engine.js`);
  const { decode } = await import(`${base}export/web/links.js`);
  const adapter = { kind: "wasm", threads };
  window.engine ??= await Engine.open(base, { adapter });
  if (engine.networks.adapter.threads !== threads) await engine.networks.use(adapter);
  const paint = async () => {
    const began = performance.now();
    let last;
    for await (const step of engine.paint(decode(link).recipe)) last = step;
    const rgba = await engine.decode(last.estimate);
    return { last, rgba, seconds: (performance.now() - began) / 1e3 };
  };
  const first = await paint(), second = await paint();
  return { rgba: [...second.rgba], attention: [...second.last.attention],
    calls: second.last.calls, first: first.seconds, seconds: second.seconds };
}"""


def shares_of(maps: list[float], grid: int, k: int) -> np.ndarray:
    """Shares (grid, grid, k) of the blocks from maps of k neighbors."""
    cells = round((len(maps) / k) ** 0.5)
    parts = np.array(maps).reshape(k, grid, cells // grid, grid, cells // grid)
    shares = parts.mean((2, 4)).transpose(1, 2, 0)
    return shares / np.maximum(shares.sum(-1, keepdims=True), 1e-12)


def line(page, address: str, pipe: RissolePipeline, calls: int, threads: int) -> str:
    """Paints one recipe on both sides and compares."""
    settings = {} if calls == 29 else {"num_inference_steps": calls, "guidance_scale": 1.0}
    began = time.perf_counter()
    out = pipe(pipe.retrieve(item=17, k=8), seed=5, **settings)
    python = time.perf_counter() - began
    asked = {"base": address, "link": encode(out.checked[0]), "threads": threads}
    found = page.evaluate(PAINT, asked)
    side = pipe.image_size
    rgb = np.array(found["rgba"], np.uint8).reshape(side, side, 4)[..., :3]
    shares = shares_of(found["attention"], len(out.attention), len(out.neighbors))
    return (
        f"{found['calls']} calls, {threads} threads: {found['seconds']:.2f} s in the browser "
        f"(the first {found['first']:.2f}), {python:.2f} s in Python; "
        f"{decibels(rgb, np.asarray(out.images[0])):.1f} dB, "
        f"attention within {np.abs(shares - out.attention).max():.0e}"
    )


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--bundle", default="cats-128")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 4, 29])
    options = parser.parse_args()
    pipe = RissolePipeline.from_pretrained(options.bundle, device="cpu", torch_dtype=torch.float32)
    with serving(options.page, headers=True) as address, sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page()
        page.goto(f"{address}facts.json")  # nothing but the engine runs
        for calls in options.calls:
            for threads in (2, 1):
                print(line(page, address, pipe, calls, threads), flush=True)
        chromium.close()


if __name__ == "__main__":
    main()
