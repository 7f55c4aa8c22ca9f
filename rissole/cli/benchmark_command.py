"""`rissole benchmark`: size, speed and memory on this machine."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import typer

from rissole.cli import options

Runs = Annotated[int, typer.Option(help="Timed pictures, after one to warm up.")]
Seed = Annotated[int, typer.Option(help="Seed of the first picture.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.", show_default="as torch chooses")]
Entries = Annotated[
    int | None,
    typer.Option("--index", help="Measure retrieval instead, among so many synthetic entries."),
]
Beside = Annotated[int, typer.Option(help="Paint again beside so many busy processes.")]
Page = Annotated[
    bool, typer.Option("--page", help="Measure the page instead, in a real browser (playwright).")
]


def benchmark(
    bundle: options.Bundle = "cats-128",
    as_json: options.AsJson = False,
    runs: Runs = 5,
    seed: Seed = 0,
    k: options.Neighbors = None,
    order: options.Order = None,
    grid: options.Grid = None,
    steps: options.Steps = None,
    guidance_scale: options.Guidance = None,
    threads: Threads = None,
    entries: Entries = None,
    beside: Beside = 0,
    page: Page = False,
    database: options.Database = None,
    device: options.Device = None,
) -> None:
    """Measure size, speed and memory on this machine; every figure is measured in this run."""
    options.check_range("--runs", runs, 1, 1000)
    options.check_range("--threads", threads, 1, 1024)
    options.check_range("--beside", beside, 0, 256)
    options.check_seeds(seed, runs + 1)  # the queries of an index have the next one
    use_threads(threads)
    start = time.perf_counter()
    pipe = options.load(bundle, database, device if entries is None else "cpu")
    load_seconds = time.perf_counter() - start
    if page:
        from rissole.app.page_benchmark import measure_page

        report = {"bundle": bundle, **measure_page(pipe, runs), "cpus": os.cpu_count()}
    elif entries is None:
        from rissole.experiments.painting_benchmark import measure_painting

        settings: dict[str, Any] = {"order": order, "grid": grid, "num_inference_steps": steps}
        settings["guidance_scale"] = guidance_scale
        figures = measure_painting(pipe, runs, seed, k, beside, **settings)
        report = {"bundle": bundle, "load_seconds": round(load_seconds, 4), **figures}
    else:
        from rissole.experiments.retrieval_benchmark import measure_index

        report = {**measure_index(pipe, entries), "cpus": os.cpu_count()}
    options.print_report(report, as_json)


def use_threads(count: int | None) -> None:
    """Lets torch and faiss compute on so many CPU threads."""
    if count is not None:
        import faiss
        import torch

        torch.set_num_threads(count)
        faiss.omp_set_num_threads(count)
