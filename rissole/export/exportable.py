"""Which bundles a page can paint as Python paints them: told before any work is done."""

from __future__ import annotations

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import Scheduler, default_scheduler, started
from rissole.noise import normal
from rissole.pipeline import RissolePipeline
from rissole.retrieval.index import EXACT

TRIED = (3, 20)  # steps; of few the last ones may be taken another way than of many


def check_tools() -> None:
    """Raises RissoleError where what writes graphs is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise RissoleError(
            f"the package {error.name} is missing: pip install 'rissole[web]', or onnx onnxscript"
        ) from error


def check_exportable(pipe: RissolePipeline) -> None:
    """Raises RissoleError where the page's scripts could not paint the same pictures."""
    if type(pipe.denoiser) is not Denoiser:  # the parts of another class are not known here
        raise RissoleError(f"a denoiser of class {type(pipe.denoiser).__name__} cannot be exported")
    if not pipe.denoiser.flow_map and not usual(pipe.scheduler):
        kind = type(pipe.scheduler).__name__
        raise RissoleError(f"the scheduler {kind} with these settings has no script to run it")
    check_search(pipe)


def usual(scheduler: Scheduler) -> bool:
    """Whether a solver takes the very steps that `levels.js` was written for."""
    known = default_scheduler()
    return all(torch.equal(end(scheduler, steps), end(known, steps)) for steps in TRIED)


def end(scheduler: Scheduler, steps: int) -> Tensor:
    """Where a run on answers that are noise ends."""
    run, sample = started(scheduler, steps), normal(0, (16,))
    for number, time in enumerate(run.timesteps, start=1):
        sample = run.step(normal(number, (16,)), time, sample).prev_sample
    return sample


def check_search(pipe: RissolePipeline) -> None:
    """Raises RissoleError where a tab could not search the database."""
    encoder = pipe.retriever.encoder
    if encoder.reads_text:
        raise RissoleError(f"pictures are compared by {encoder.name}, which is not in the bundle")
    if len(pipe.database) > EXACT:
        raise RissoleError(f"the database has {len(pipe.database):,} pictures, a page {EXACT:,}")
