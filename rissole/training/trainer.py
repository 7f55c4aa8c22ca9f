"""The one trainer: budget, learning rate, gradients, averages, history, and states to go on from.

A stage gives it modules, functions that compute losses, and batches:

    trainer = Trainer({"model": Trained(model, peak_rate=1e-3)}, generator, state_file(out))
    trainer.fit([losses], batches, budget, keep=lambda history: model.save(out))

What `fit` leaves in a state file (weights, optimizers, averages, random numbers) lets a later
session go on as if there had been no break.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.training.checkpoint import (
    DIVERGED,
    State,
    check_learned,
    read_state,
    write_state,
)
from rissole.training.graphs import replays
from rissole.training.learner import Learner, Trained
from rissole.training.together import agreed, processes, rank

Losses = Callable[[Tensor], dict[str, Tensor]]  # of a batch's numbers; adds gradients
History = list[dict[str, float]]


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall time, or a number of steps; whichever ends first."""

    minutes: float = math.inf
    steps: int | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields `(step, progress)` with progress from 0 to 1 until the budget is spent."""
        start, step, by_time = time.monotonic(), 0, 0.0
        while True:
            if processes() == 1 or step % 20 == 0:  # clocks differ: the first process decides
                by_time = agreed((time.monotonic() - start) / (60 * self.minutes))
            by_steps = step / self.steps if self.steps is not None else 0.0
            progress = max(by_steps, by_time)
            if progress >= 1:
                return
            yield step, progress
            step += 1


class Batches:
    """Index tensors (batch,) that visit every item once per epoch, in random order, for ever."""

    def __init__(self, count: int, batch: int, generator: torch.Generator):
        self.count, self.batch, self.generator = count, batch, generator
        self.pool = torch.empty(0, dtype=torch.long, device=generator.device)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        draw, device = self.generator, self.generator.device
        while len(self.pool) < self.batch:
            epoch = torch.randperm(self.count, generator=draw, device=device)
            self.pool = torch.cat([self.pool, epoch])
        batch, self.pool = self.pool[: self.batch], self.pool[self.batch :]
        return batch


class Trainer:
    """Trains modules together; goes on from the state file of an earlier session.

    Args:
        trained: modules by name, and how each is trained.
        generator: what losses and batches draw from, on the device.
        state: file to go on from, and to leave for the next session.
        schedule: the part of the learning-rate schedule that the budget covers; a run in two
            sessions is (0, 0.5), then (0.5, 1).
        seed: of the kinds of steps.
        follow: told, after each step, how much of the schedule is done.
    """

    def __init__(
        self,
        trained: Mapping[str, Trained],
        generator: torch.Generator,
        state: Path,
        *,
        schedule: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        follow: Callable[[float], None] | None = None,
    ):
        torch.set_float32_matmul_precision("high")  # products may use the tensor cores
        torch.backends.cudnn.benchmark = True
        self.generator, self.path, self.schedule = generator, state, schedule
        self.follow = follow
        self.learners = {name: Learner(how) for name, how in trained.items()}
        self.kinds = torch.Generator().manual_seed(seed + int(1000 * schedule[0]))
        self.found = read_state(state)
        self.steps, self.minutes = self.found.steps, self.found.minutes
        if self.found.steps:
            self._restore()

    def _restore(self) -> None:
        """Takes over what an earlier session left.

        Raises:
            RissoleError: when that session trained something else.
        """
        try:
            for name, learner in self.learners.items():
                learner.restore(self.found.part(name))
        except (KeyError, IndexError, RuntimeError, ValueError) as error:  # by names or by shapes
            line = "is the state of another network or other settings: delete it to start anew"
            raise RissoleError(f"{self.path} {line}") from error

    def fit(
        self,
        losses: Sequence[Losses],
        batches: Batches,
        budget: Budget,
        keep: Callable[[History], None],
        *,
        shares: Sequence[float] = (1.0,),
        title: str = "",
        recorded: bool = True,
        every: int = 100,
    ) -> History:
        """Trains until the budget is spent or Ctrl-C; keeps what was learned either way.

        Args:
            losses: kinds of steps; all draw from the trainer's generator.
            batches: numbers of what a step sees.
            budget: of this session.
            keep: writes what the stage is for, with averaged weights in the modules.
            shares: how often each kind of step is taken.
            title: of the progress bar.
            recorded: on CUDA, record steps once and replay them.
            every: steps that the history averages over.

        Returns:
            The history of the losses.

        Raises:
            RissoleError: when losses or weights are not finite; nothing is written then.
        """
        bar = Progress(budget, title, every)
        steps: Sequence[Callable[[Tensor], dict[str, Tensor]]]
        steps = [partial(self._learn, one) for one in losses]
        steps = replays(steps, self.generator) if recorded else steps
        start = time.monotonic()
        with self._random_state(batches):
            try:
                for step, progress in bar:
                    kind = int(torch.multinomial(torch.tensor(shares), 1, generator=self.kinds))
                    values = steps[kind](next(batches))
                    self._update(step, progress)
                    bar.report(step, **values)
            finally:  # Ctrl-C keeps what was learned
                self.minutes += (time.monotonic() - start) / 60 * processes()
                if not bar.diverged:
                    self._finish(batches, partial(keep, bar.history))
        return bar.history

    def _learn(self, losses: Losses, index: Tensor) -> dict[str, Tensor]:
        for learner in self.learners.values():
            learner.gradients.clear()
        return losses(index)

    def _update(self, step: int, progress: float) -> None:
        first, last = self.schedule
        # a session that begins within the schedule goes on with its warm-up, another one anew
        warming = self.steps if first > 0 else step
        overall = first + progress * (last - first)
        for learner in self.learners.values():
            learner.update(overall, warming, self.steps)
        if self.follow:
            self.follow(overall)
        self.steps += 1

    @contextmanager
    def _random_state(self, batches: Batches) -> Iterator[None]:
        """Random numbers go on where the last session stopped; dropout's are torch's own."""
        device = self.generator.device
        cuda = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            if drawn := self.found.part("random"):
                self.kinds.set_state(drawn["kinds"])
                torch.set_rng_state(drawn["torch"])
                here = self.generator.get_state()
                if rank() == 0 and drawn["generator"].shape == here.shape:
                    self.generator.set_state(drawn["generator"])
                    batches.pool = drawn["pool"].to(device)
                else:  # another process, or another kind of device
                    self.generator.manual_seed(self.generator.initial_seed() + self.steps)
                if cuda and "cuda" in drawn:
                    torch.cuda.set_rng_state(drawn["cuda"], device)
            yield

    def _finish(self, batches: Batches, keep: Callable[[], None]) -> None:
        check_learned(learner.module for learner in self.learners.values())
        if rank() == 0:
            parts = {name: learner.tensors() for name, learner in self.learners.items()}
            parts["random"] = {
                "kinds": self.kinds.get_state(),
                "torch": torch.get_rng_state(),
                "generator": self.generator.get_state(),
                "pool": batches.pool,
            }
            if self.generator.device.type == "cuda":
                parts["random"]["cuda"] = torch.cuda.get_rng_state(self.generator.device)
            write_state(self.path, State(parts, self.steps, self.minutes))
        for learner in self.learners.values():
            if learner.average:
                learner.average.copy_to(learner.parameters)
        if rank() == 0:
            keep()


class Progress:
    """A progress bar over a budget that shows running means of what a step reports."""

    def __init__(self, budget: Budget, title: str, every: int):
        self.budget, self.title, self.every = budget, title, every
        self.history: History = []
        self.diverged = False

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields the budget's `(step, progress)`."""
        shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
        bar = tqdm(total=1000, desc=self.title, bar_format=shape, mininterval=2, disable=rank() > 0)
        self.bar, self.count = bar, 0
        self.sums: dict[str, float | Tensor] = {}
        spent = False
        try:
            for step, progress in self.budget:
                bar.update(int(progress * 1000) - bar.n)
                yield step, progress
            bar.update(1000 - bar.n)
            spent = True
        finally:
            bar.close()
            # who pressed Ctrl-C shall wait, not press it again
            if not (spent or self.diverged or rank()):
                print("keeping what was learned", file=sys.stderr)

    def report(self, step: int, **values: Tensor | float) -> None:
        """Adds a step's losses; prints their means now and then: reading them waits.

        Raises:
            RissoleError: when a mean is not finite.
        """
        self.count += 1
        for name, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + value
        if self.count >= self.every:
            means = {k: float(v) / self.count for k, v in self.sums.items()}
            if odd := next((k for k, v in means.items() if not math.isfinite(v)), None):
                self.diverged = True
                raise RissoleError(DIVERGED.format(what=f"{odd} by step {step} is"))
            self.history.append({"step": step, **means})
            self.bar.set_postfix_str(
                f"step {step} " + " ".join(f"{k} {v:.4g}" for k, v in means.items())
            )
            self.sums, self.count = {}, 0


def generator_for(seed: int, device: str | torch.device) -> torch.Generator:
    """The random numbers of a stage; every process that trains with others has its own."""
    return torch.Generator(device).manual_seed(seed + 10_000 * rank())


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - torch's layers draw from the global generator
        return make()
