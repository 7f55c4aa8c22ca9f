"""Networks as they were on the way, of which one may be chosen afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rissole.training.together import rank
from rissole.training.trainer import Trainer


class Snapshots:
    """Networks of all averages, written now and then.

    Which average over which part of a training is best shows only when pictures are looked at.

    Args:
        trainer: of the network, its `model`; it is followed.
        out: folder of the network; they lie in `snapshots` there, named by step and decay.
        decays: of the averages, per step.
        count: how often in a training they are written, evenly, last at the end; once at least
            where there are several.
    """

    def __init__(self, trainer: Trainer, out: Path, decays: Sequence[float], count: int):
        self.trainer, self.folder, self.decays = trainer, out / "snapshots", decays
        self.count = count or int(len(decays) > 1)
        self.written: int | None = None  # how many were due when somebody last looked
        trainer.followers.append(self.follow)

    def follow(self, progress: float) -> None:
        """Writes them if it is time, at a share of the schedule."""
        due = int(progress * self.count)
        before, self.written = self.written, due
        if before is None or due <= before or rank():
            return
        learner: Any = self.trainer.learners["model"]
        for number, decay in enumerate(self.decays):
            with learner.averaged(number):
                name = f"step-{self.trainer.steps:08}-{decay:g}.safetensors"
                learner.module.write(self.folder / name)
