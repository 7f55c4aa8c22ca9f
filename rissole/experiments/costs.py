"""What a picture of each method costs on this machine's processor."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from rissole.experiments.cases import Case
from rissole.experiments.comparison import load_method, method_of
from rissole.experiments.machine import peak_rss
from rissole.models.autoencoder import Codec
from rissole.training.bulk import Painting, decode_bytes
from rissole.training.checkpoint import write_json


def cost_here(run: Path, case: Case, repeats: int = 3) -> dict[str, float | int]:
    """What one picture costs on this machine's processor, in a process of its own.

    Returns:
        `cpu_seconds`, the median of `repeats` after a short one to warm up, `cpu_threads`, and
        `cpu_peak_memory_gb`, the process's largest resident memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_cost_here, run, case, repeats).result()


def _cost_here(run: Path, case: Case, repeats: int) -> dict[str, float | int]:
    method, model = load_method(run, case, "cpu")
    codec, shown = Codec.load(run / "autoencoder"), method.neighbors_shown(model, case.k)
    with safe_open(run / "latents" / "latents.safetensors", "pt") as file:
        near = file.get_slice("latents")[: max(shown, 1)][None, :shown].float()

    def once(painting: Painting) -> float:
        start = time.perf_counter()
        decode_bytes(codec, method.paint(model, near, painting, 0))
        return time.perf_counter() - start

    once(replace(case.painting, num_inference_steps=2))
    seconds = statistics.median(once(case.painting) for _ in range(repeats))
    return {
        "cpu_seconds": seconds,
        "cpu_threads": torch.get_num_threads(),
        "cpu_peak_memory_gb": peak_rss() / 1e9,
    }


def add_costs(run: Path, on_row: Callable[[str, dict], None] | None = None) -> None:
    """Measures `cost_here` for all painted rows of a comparison that lack it."""
    path = run / "comparison" / "rows.json"
    rows = json.loads(path.read_bytes())
    for name, row in rows.items():
        if "parameters" in row and "cpu_seconds" not in row:
            case = Case(**row["case"])
            row |= cost_here(
                run, case, repeats=1 if method_of(case).network_calls(case.painting) > 1000 else 3
            )
            write_json(path, rows)
            if on_row:
                on_row(name, row)
