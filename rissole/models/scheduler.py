"""The scheduler of a bundle: how steps lead from noise to a picture. They come from `diffusers`."""

from __future__ import annotations

from pathlib import Path

from diffusers import DPMSolverMultistepScheduler, SchedulerMixin


def default_scheduler() -> SchedulerMixin:
    """DPM-Solver++ (2M) on the flow-matching path (arXiv 2211.01095)."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
    )


def load_scheduler(folder: str | Path) -> SchedulerMixin:
    """Reads what `save_pretrained` of a scheduler wrote."""
    return DPMSolverMultistepScheduler.from_pretrained(folder)
