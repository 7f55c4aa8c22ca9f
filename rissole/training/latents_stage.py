"""Stage `latents`: encode all photos, and find who is whose neighbor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rissole.training.hyperparameters import Part, Positive
from rissole.training.stage import STAGES, Job, Stage, check_cut


@dataclass(frozen=True)
class LatentsSettings:
    """Settings of the stage.

    Attributes:
        same_class: share of pictures whose neighbors are of their own class. Not all are: who
            retrieves without a class gets neighbors of several.
        own_blocks: find neighbors of every single block of a 4x4 grid as well, for training with
            blocks that have neighbors of their own.
        ways: in how many ways photos are encoded, the first of them as they are; the others turn,
            shift, enlarge and color all of them, for training that is told of it.
    """

    same_class: Part = 0.75
    own_blocks: bool = False
    ways: Positive = 1


@STAGES.register
class LatentsStage(Stage):
    """Encodes photos and finds neighbors, by the run's encoder if it has one."""

    name = "latents"
    help = (
        "encode all photos, find who is whose neighbor, mostly within a class if photos have one."
    )
    settings = LatentsSettings
    needs = ("autoencoder",)
    uses = ("encoder", "decoder")

    def state(self, run: Path, settings: Any) -> None:
        """Nothing to go on from."""

    def prepare(self, job: Job, settings: LatentsSettings) -> None:
        """Refuses sizes of which no denoiser could paint the latents."""
        super().prepare(job, settings)
        check_cut(job)

    def run(self, job: Job, settings: LatentsSettings) -> dict[str, Any]:
        """Writes the folder `latents`."""
        from rissole.retrieval.encoders import LearnedEncoder
        from rissole.training.neighborhoods import make_latents

        learned = job.run / "encoder"
        photos, labels, classes = job.photos
        made = make_latents(
            job.run / "autoencoder", photos, self.target(job.run, settings), job.device,
            encoder=LearnedEncoder.load(learned) if learned.is_dir() else None,
            labels=labels, classes=classes, same_class=settings.same_class,
            own_blocks=settings.own_blocks, ways=settings.ways,
        )  # fmt: skip
        return {name: " x ".join(map(str, tensor.shape)) for name, tensor in made.items()}
