"""The scheduler of a bundle: how steps lead from noise to a picture, and what is predicted.

Schedulers come from `diffusers`, by the class name in their config: those of `SCHEDULERS`, which
take one evaluation a step, draw no noise of their own, and start from noise of unit size. A noisy
latent is `signal * clean + noise * e` with e standard normal; on the path of flow matching (arXiv
2209.03003, 2210.02747) signal is 1 - t and noise is t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from rissole.config import RissoleError
from rissole.models.library_configs import read_library_config
from rissole.models.saving import one_line
from rissole.registry import Registry
from rissole.storage.schema import OddError

PROBE = 4  # steps that a scheduler is tried with
# what a bundle's scheduler may be, by class name: those of `diffusers` that can serve and draw no
# noise in any setting that passes; another one is added with `SCHEDULERS["ItsName"] = ItsName`
SCHEDULERS: dict[str, type] = {
    c.__name__: c
    for c in (
        *(DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, DEISMultistepScheduler),
        *(UniPCMultistepScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler),
    )
}


class Scheduler(Protocol):
    """What is used of a `diffusers` scheduler; their own base class declares none of it."""

    timesteps: Any
    sigmas: Any
    alphas_cumprod: Any

    @property
    def config(self) -> Any:
        """Its settings."""

    def set_timesteps(self, num_inference_steps: int, *, device: Any = None) -> None:
        """Starts a run."""

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any:
        """Goes from one level to the next; the result has `prev_sample`."""

    def save_pretrained(self, save_directory: Any) -> None:
        """Writes the settings."""


class Level(NamedTuple):
    """How noisy a latent is.

    Attributes:
        time: what the network is told, 0 clean to 1 pure noise.
        signal, noise: shares of the clean latent and of the noise in it.
    """

    time: float
    signal: float
    noise: float


@dataclass(frozen=True)
class Prediction:
    """What a network answers, in the words of `diffusers`.

    Attributes:
        name: as a scheduler's config has it in `prediction_type`.
        target: (clean, e, signal, noise) to what a network learns to answer.
        clean: (answer, noisy, level) to the clean latent as far as it can be told.
    """

    name: str
    target: Callable[[Tensor, Tensor, Any, Any], Tensor]
    clean: Callable[[Tensor, Tensor, Level], Tensor]


PREDICTIONS: Registry[Prediction] = Registry("prediction type")
FLOW = PREDICTIONS.register(
    Prediction(
        "flow_prediction",
        target=lambda clean, e, signal, noise: e - clean,
        clean=lambda answer, noisy, level: noisy - level.noise * answer,
    )
)
PREDICTIONS.register(
    Prediction(
        "epsilon",
        target=lambda clean, e, signal, noise: e,
        clean=lambda answer, noisy, level: (noisy - level.noise * answer) / level.signal,
    )
)
PREDICTIONS.register(
    Prediction(
        "v_prediction",
        target=lambda clean, e, signal, noise: signal * e - noise * clean,
        clean=lambda answer, noisy, level: level.signal * noisy - level.noise * answer,
    )
)
PREDICTIONS.register(
    Prediction(
        "sample",
        target=lambda clean, e, signal, noise: clean,
        clean=lambda answer, noisy, level: answer,
    )
)


def default_scheduler() -> Scheduler:
    """DPM-Solver++ (2M) on the flow-matching path (arXiv 2211.01095)."""
    flow = {"prediction_type": FLOW.name, "use_flow_sigmas": True, "flow_shift": 1.0}
    solver: Any = DPMSolverMultistepScheduler(**flow)
    return solver


def load_scheduler(folder: str | Path) -> Scheduler:
    """Reads what `save_pretrained` of any scheduler wrote.

    Raises:
        RissoleError: when it is missing or damaged, or cannot serve.
    """
    path = Path(folder) / "scheduler_config.json"
    with one_line("scheduler", path):
        kind, settings = read_library_config(path, SCHEDULERS)
        noisy = str(settings.get("algorithm_type", "")).startswith("sde")
        if noisy or settings.get("stochastic_sampling"):
            raise OddError("it draws noise of its own, a recipe would not paint twice alike")
        scheduler: Any = kind.from_config(settings)
    check_scheduler(scheduler)
    return scheduler


def prediction_of(scheduler: Scheduler) -> Prediction:
    """What a scheduler wants to be told; those of flow matching alone need not say so."""
    return PREDICTIONS[scheduler.config.get("prediction_type", FLOW.name)]


def check_scheduler(scheduler: Scheduler) -> None:
    """Tries a scheduler.

    Raises:
        RissoleError: one line that says why it cannot serve.
    """
    name = type(scheduler).__name__
    draw = torch.Generator().manual_seed(0)
    answer, noisy = (torch.randn(1, 4, 4, 4, generator=draw) for _ in range(2))
    try:
        prediction_of(scheduler)
        first, again = (started(scheduler, PROBE) for _ in range(2))
        size = getattr(first, "init_noise_sigma", 1.0)
        if len(levels_of(first)) != PROBE or abs(float(size) - 1) > 1e-4:
            raise ValueError("it takes more than one evaluation a step, or noise of another size")
        for time in first.timesteps:
            one, other = (s.step(answer, time, noisy).prev_sample for s in (first, again))
            if not one.isfinite().all():
                raise ValueError("it divides by zero")
            if not torch.equal(one, other):
                raise ValueError("it draws noise of its own, a recipe would not paint twice alike")
    except Exception as error:  # whatever a class of another kind stumbles over
        reason = " ".join(str(error).split())[:200]
        raise RissoleError(f"the scheduler {name} cannot serve: {reason}") from error


def started(
    scheduler: Scheduler,
    steps: int,
    device: torch.device | str | None = None,
    flow_map: bool = False,
) -> Scheduler:
    """A new scheduler, ready for a run: they keep state.

    Args:
        scheduler: whose settings it has.
        steps: of the run.
        device: of the latents.
        flow_map: whether the network answers for whole steps: the scheduler then just takes them,
            whatever the settings, between the levels that the network knows.
    """
    kind: Any = FlowMatchEulerDiscreteScheduler if flow_map else type(scheduler)
    new: Scheduler = kind() if flow_map else kind.from_config(scheduler.config)
    set_levels(new, steps, device)
    if flow_map:
        place(new, flow_map_levels(steps), device)
    return new


def set_levels(scheduler: Scheduler, steps: int, device: torch.device | str | None = None) -> None:
    """Spaces the noise levels of a flow scheduler; others keep their own spacing."""
    scheduler.set_timesteps(steps, device=device)
    if scheduler.config.get("use_flow_sigmas", False):
        place(scheduler, spaced_levels(steps), device)


def spaced_levels(steps: int) -> Tensor:
    """Levels (steps + 1,) from 1 to 0: small steps at both ends, smaller at the clean.

    Near pure noise the neighbors decide at once what the picture will be; near the end fine texture
    forms.
    """
    line = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    levels = line - 0.4 * torch.sin(2 * math.pi * line) / (2 * math.pi)
    return levels * 0.75 / (1 - 0.25 * levels)


def flow_map_levels(calls: int) -> Tensor:
    """Levels (calls + 1,) from 1 to 0 that a flow map has learned to jump between."""
    few = {2: (1, 0.55, 0), 4: (1, 0.8, 0.55, 0.28, 0)}
    return torch.tensor(few[calls], dtype=torch.float64) if calls in few else spaced_levels(calls)


def place(scheduler: Scheduler, levels: Tensor, device: torch.device | str | None) -> None:
    """Gives a started flow scheduler its levels (steps + 1,)."""
    scheduler.sigmas = levels.float()
    scheduler.timesteps = (1000 * levels[:-1]).float().to(device)


def levels_of(scheduler: Scheduler) -> list[Level]:
    """The level before each step of a started scheduler."""
    # schedulers of nothing but flow matching know no other path
    if scheduler.config.get("use_flow_sigmas", not hasattr(scheduler, "alphas_cumprod")):
        times = [float(sigma) for sigma in scheduler.sigmas[: len(scheduler.timesteps)]]
        return [Level(time, 1 - time, time) for time in times]
    kept = [float(scheduler.alphas_cumprod[int(time)]) for time in scheduler.timesteps]
    length = scheduler.config.num_train_timesteps
    return [
        Level(float(time) / length, math.sqrt(share), math.sqrt(1 - share))
        for time, share in zip(scheduler.timesteps, kept, strict=True)
    ]
