"""Stage `samples`: pictures on numbered sheets, for people to grade."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rissole.config import RissoleError
from rissole.training.hyperparameters import SamplesSettings
from rissole.training.stage import STAGES, Job, Stage


@STAGES.register
class SamplesStage(Stage):
    """Paints pictures, and lays them out without saying which are photos."""

    name = "samples"
    help = "paint numbered sheets of pictures, for you to grade in OUT/samples/grades.csv."
    settings = SamplesSettings
    needs = ("autoencoder", "latents")
    uses = ("denoiser", "few-steps")
    reads_photos = False

    def state(self, run: Path, settings: Any) -> None:
        """Nothing to go on from."""

    def prepare(self, job: Job, settings: SamplesSettings) -> None:
        """Refuses to paint with a network that is not there, and over what somebody may grade."""
        if (out := self.target(job.run, settings)).exists():
            raise RissoleError(
                f"{out} exists: move it away (`more` of --stage defects reads it there), "
                "or choose another --out"
            )
        super().prepare(job, settings)
        if not (path := job.run / settings.paint_with).exists():
            raise RissoleError(f"{path} is missing: run --stage {settings.paint_with} first")

    def run(self, job: Job, settings: SamplesSettings) -> dict[str, Any]:
        """Writes the folder."""
        from rissole.training.samples import grades_file, paint_samples

        out = self.target(job.run, settings)
        count = paint_samples(job.run, out, settings, job.device, job.seed)
        lines = "a line `number,grade` for each: 0 no defect, 1 a blemish, 2 a clear defect"
        print(f"now write {grades_file(out)}, {lines}; then run --stage defects", file=sys.stderr)
        return {"pictures": count}
