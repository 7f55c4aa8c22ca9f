"""Stages `features` and `check`: networks whose features pictures are compared by.

`features` measures, and `check` measures once more what was chosen by `features`. They differ in
their seed alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rissole.training.hyperparameters import FeatureTraining
from rissole.training.stage import STAGES, Job, Stage


@STAGES.register
class Features(Stage):
    """Trains a network that measures pictures."""

    name = "features"
    help = "a network that measures pictures."
    settings = FeatureTraining
    apart: ClassVar[int] = 0  # added to the seed

    def target(self, run: Path, settings: FeatureTraining) -> Path:
        """A file in the run's folder."""
        return run / f"{self.name}.safetensors"

    def prepare(self, job: Job, settings: FeatureTraining) -> None:
        """Refuses networks that there are not."""
        from rissole.evaluation.network import FeatureConfig, FeatureNetwork

        super().prepare(job, settings)
        FeatureNetwork(FeatureConfig(settings.arch))

    def run(self, job: Job, settings: FeatureTraining) -> dict[str, Any]:
        """Trains on the photos that are not held out: those must be new to this network, too."""
        from rissole.data.photos import split
        from rissole.training.representation import train_features

        train, _ = split(job.photos.photos)
        network = train_features(
            train, self.target(job.run, settings), job.budget, settings=settings,
            device=job.device, seed=job.seed + self.apart,
        )  # fmt: skip
        return {"network": network.name}


@STAGES.register
class Check(Features):
    """Trains a second one."""

    name = "check"
    help = "another one, that chose nothing."
    apart = 1
