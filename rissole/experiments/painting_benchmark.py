"""How long painting takes on this machine, and what it needs."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable
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
    previews = [timed(partial(preview, number))[0] for number in numbers]
    return {
        **{f"{part}_parameters": count for part, count in pipe.num_parameters().items()},
        "network_calls": output.network_calls,
        **_seconds("seconds_per_image", seconds),
        "seconds_per_image_min": round(min(seconds), 4),
        **_seconds("first_preview_seconds", previews),
        **(_crowding(partial(map, paint, numbers), seconds, beside) if beside else {}),
        "runs": runs,
        **_machine(pipe),
        "settings": {name: output.recipe[name] for name in settings} | _sizes(pipe, output),
    }


def _sizes(pipe: RissolePipeline, output: GenerationOutput) -> dict[str, int]:
    return {
        "k": len(output.recipe["neighbors"]),
        "image_size": pipe.image_size,
        "database_items": len(pipe.database),
    }


def _seconds(name: str, seconds: list[float]) -> dict[str, float]:
    """The median of some runs, and the slowest."""
    return {name: round(statistics.median(seconds), 4), f"{name}_max": round(max(seconds), 4)}


def _crowding(
    again: Callable[[], Iterable[GenerationOutput]], alone: list[float], beside: int
) -> dict[str, Any]:
    """What busy processes cost: the same pictures beside them."""
    with busy_processes(beside):
        pictures = iter(again())
        middle = statistics.median(timed(partial(next, pictures))[0] for _ in alone)
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
