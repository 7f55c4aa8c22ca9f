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
from rissole.experiments.comparison import load_model, network_calls, paint_latents, shown
from rissole.experiments.machine import peak_rss
from rissole.models.autoencoder import Codec
from rissole.training.gallery_stage import decode_bytes
from rissole.training.trainer import write_json


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
    model, codec = load_model(run, case, "cpu"), Codec.load(run / "autoencoder")
    with safe_open(run / "latents" / "latents.safetensors", "pt") as file:
        near = file.get_slice("latents")[: max(shown(case, model), 1)][None].float()

    def once(case: Case) -> float:
        start = time.perf_counter()
        decode_bytes(codec, paint_latents(model, case, near[:, : shown(case, model)], 0))
        return time.perf_counter() - start

    once(replace(case, num_inference_steps=2))
    seconds = statistics.median(once(case) for _ in range(repeats))
    return {
        "cpu_seconds": seconds,
        "cpu_threads": torch.get_num_threads(),
        "cpu_peak_memory_gb": peak_rss() / 1e9,
    }


def add_costs(run: Path, on_row: Callable[[str, dict], None] | None = None) -> None:
    """Measures `cost_here` for all painted rows of a comparison that lack it."""
    path = run / "comparison" / "rows.json"
    rows = json.loads(path.read_text())
    for name, row in rows.items():
        if "parameters" in row and "cpu_seconds" not in row:
            case = Case(**row["case"])
            row |= cost_here(run, case, repeats=1 if network_calls(case) > 1000 else 3)
            write_json(path, rows)
            if on_row:
                on_row(name, row)
