"""How long a training lasts, how far it has come, and when it is saved."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from rissole.training.together import agreed, processes


@dataclass(frozen=True)
class Interval:
    """How often a training is saved.

    Attributes:
        minutes: that pass between two savings, at most.
        steps: that are taken between two savings, at most; None leaves it to the minutes.
    """

    minutes: float = 5.0
    steps: int | None = None


@dataclass(frozen=True)
class Budget:
    """How long to train.

    Attributes:
        minutes: of wall time. Where no steps are given, the learning rate follows them; otherwise
            they end the work of a day, and the steps that are left are for another.
        steps: that the learning rate follows, which is the same however long they take.
        saved: how often.
        asked: False for one that gives way to what an unfinished session was begun with.
    """

    minutes: float = math.inf
    steps: int | None = None
    saved: Interval = Interval()
    asked: bool = True


@dataclass
class Session:
    """One way through a part of the learning-rate schedule; days and crashes may lie in between.

    Attributes:
        schedule: the part.
        minutes, steps: to spend, as in `Budget`; None for no limit.
        step: steps taken.
        spent: minutes spent.
    """

    schedule: tuple[float, float]
    minutes: float | None
    steps: int | None
    step: int = 0
    spent: float = 0.0
    today: tuple[int, float, float] = field(init=False, repr=False)  # step, spent, clock
    saved: tuple[int, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.today = (self.step, self.spent, time.monotonic())
        self.saved = (self.step, self.spent)

    @property
    def progress(self) -> float:
        """How much of the session is over, 0 to 1."""
        if self.steps is not None:
            return self.step / self.steps
        return 0.0 if self.minutes is None else self.spent / self.minutes

    @property
    def overall(self) -> float:
        """How much of the whole schedule is over, 0 to 1."""
        first, last = self.schedule
        return first + min(self.progress, 1.0) * (last - first)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, or not today; every day makes a step at least."""
        if self.progress >= 1 or self.steps is None or self.minutes is None:
            return self.progress >= 1
        step, spent, _ = self.today
        return self.step > step and self.spent - spent >= self.minutes

    def advance(self) -> None:
        """A step was taken."""
        self.step += 1
        _, spent, clock = self.today
        if processes() == 1 or self.step % 20 == 0:  # clocks differ: the first process decides
            self.spent = agreed(spent + (time.monotonic() - clock) / 60)

    def due(self, interval: Interval) -> bool:
        """Whether it is time to save."""
        step, spent = self.saved
        often = interval.steps is not None and self.step - step >= interval.steps
        return often or self.spent - spent >= interval.minutes

    def __str__(self) -> str:
        spent = f"{self.spent:.1f} minutes"
        if self.steps is None and self.minutes is None:
            return f"step {self.step} after {spent}"
        share = f"{100 * min(self.progress, 1.0):.0f} %"
        if self.steps is None:
            return f"step {self.step} after {spent} of {self.minutes:g} ({share})"
        return f"step {self.step} of {self.steps} ({share}) after {spent}"


def session_of(budget: Budget, schedule: tuple[float, float], found: Session | None) -> Session:
    """Goes on with an unfinished session of the same part of the schedule, or begins one."""
    minutes = None if math.isinf(budget.minutes) else budget.minutes
    if found is None or found.schedule != schedule:
        return Session(schedule, minutes, budget.steps)
    if budget.asked:
        return Session(schedule, minutes, budget.steps, found.step, found.spent)
    return Session(schedule, found.minutes, found.steps, found.step, found.spent)
