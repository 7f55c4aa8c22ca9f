"""How long painting takes on this machine, and what it needs."""

from __future__ import annotations

import os
import platform
import statistics
from contextlib import closing
from functools import partial
from typing import Any

import torch

from rissole.experiments.machine import busy_processes, peak_rss, timed
from rissole.outputs import GenerationOutput
from rissole.pipeline import RissolePipeline


def measure_painting(
    pipe: RissolePipeline,
    runs: int,
    seed: int,
    k: int | None = None,
    beside: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Paints pictures after one to warm up, and their first previews.

    Args:
        pipe: what to measure.
        runs: timed pictures.
        seed: of the first; the next has `seed + 1`.
        k: neighbors of each; None takes the bundle's number.
        beside: how many busy processes to paint beside, after painting alone.
        settings: as for `RissolePipeline.stream`.

    Returns:
        Sizes, seconds, memory, and what they were measured with and on.
    """
    k = pipe.defaults["k"] if k is None else k

    def paint(number: int) -> GenerationOutput:
        output = pipe(pipe.retrieve(k=k, seed=number), **settings, seed=number)
        if torch.accelerator.is_available():  # it is still at work when the call returns
            torch.accelerator.synchronize()
        return output

    def preview(number: int) -> None:
        hits = pipe.retrieve(k=k, seed=number)
        with closing(pipe.stream(hits, **settings, seed=number)) as stream:
            next(stream).preview.load()

    output, numbers = paint(seed), range(seed, seed + runs)
    seconds = [timed(partial(paint, number))[0] for number in numbers]
    with busy_processes(beside):
        crowded = [timed(partial(paint, number))[0] for number in numbers if beside]
    previews = [timed(partial(preview, number))[0] for number in numbers]
    return {
        **{f"{part}_parameters": count for part, count in pipe.num_parameters().items()},
        "network_calls": output.network_calls,
        "seconds_per_image": round(statistics.median(seconds), 4),
        "seconds_per_image_min": round(min(seconds), 4),
        "seconds_per_image_max": round(max(seconds), 4),
        "first_preview_seconds": round(statistics.median(previews), 4),
        "first_preview_seconds_max": round(max(previews), 4),
        **_crowding(seconds, crowded, beside),
        "runs": runs,
        **_machine(pipe),
        "settings": {
            **{name: output.recipe[name] for name in settings},
            "k": len(output.recipe["neighbors"]),
            "image_size": pipe.image_size,
            "database_items": len(pipe.database),
        },
    }


def _crowding(alone: list[float], crowded: list[float], beside: int) -> dict[str, Any]:
    """What busy processes cost; nothing where there were none."""
    if not crowded:
        return {}
    middle = statistics.median(crowded)
    return {
        "busy_processes": beside,
        "seconds_per_image_beside": round(middle, 4),
        "times_slower_beside": round(middle / statistics.median(alone), 2),
    }


def _machine(pipe: RissolePipeline) -> dict[str, Any]:
    """Memory that was taken, and what computed."""
    weights = next(pipe.denoiser.parameters())
    device, cuda = weights.device, weights.is_cuda
    return {
        "peak_rss_mb": round(peak_rss() / 2**20, 1),
        "peak_gpu_mb": round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if cuda else 0.0,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "dtype": str(weights.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
