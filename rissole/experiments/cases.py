"""What a comparison paints: a row of its table each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS
from rissole.training.bulk import Painting
from rissole.training.denoiser_stage import folder
from rissole.training.method import METHODS

GUIDANCE = (1.0, 1.3, 1.6, 2.0, 3.0)  # these two: what the ablations try
STEPS = (5, 8, 12, 16, 20, 30, 50)
CALLS = (1, 2, 4, 8, 20)  # of networks of few steps
FEW = {
    "few-steps": "rissole, distilled",
    "polish": "rissole, polished",
    "few-steps-rissole-small": "rissole-small, distilled",
    "polish-few-steps-rissole-small": "rissole-small, polished",
}


@dataclass(frozen=True)
class Case:
    """One row: a model and how it is used.

    Attributes:
        name: shown in the table.
        model: folder in the run, or what stands in place of one, of `bench.UNPAINTED`.
        order, grid, num_inference_steps, guidance_scale: as everywhere.
        k: neighbors shown; 0 paints without.
        neighbors: "nearest", or in their place "random" pictures, or random ones of the query's
            "class", if photos have classes.
    """

    name: str
    model: str = "denoiser"
    order: str = "parallel"
    grid: int = 4
    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE
    k: int = 8
    neighbors: str = "nearest"

    @property
    def painting(self) -> Painting:
        """How its pictures are painted."""
        return Painting(
            self.order, self.grid, self.num_inference_steps, self.guidance_scale, self.k
        )


def methods(steps: int, guidance: float) -> list[Case]:
    """The rows of the comparison, the block denoiser at the given settings.

    Methods from elsewhere come last, painted as the block denoiser is.
    """
    ours = Case("rissole", num_inference_steps=steps, guidance_scale=guidance)
    few = [
        replace(ours, name=f"{name}, {n} call{'s' * (n > 1)}", model=model, num_inference_steps=n)
        for model, name in FEW.items()
        for n in CALLS
    ]
    rows = [
        Case("photos, held out", "photos"),
        Case("reconstructions", "reconstructions"),
        ours,
        replace(ours, name="rissole, 2x2 blocks", grid=2),
        replace(ours, name="rissole, 1x1 block", grid=1),
        replace(ours, name="rissole, sequential", order="sequential"),
        replace(ours, name="rissole, independent", order="independent"),
        *few,
        Case("published", "published", "independent", 2, 1000, 1.0, 10),
        Case("published, no retrieval", "published-no-retrieval", "independent", 2, 1000, 1.0, 0),
        Case("whole image", "whole-image", "whole", 1, 50, 1.0, 0),
        Case("whole image, retrieval", "whole-image-retrieval", "whole", 1, 50, guidance),
        Case("nearest neighbor, decoded", "nearest neighbor"),
    ]
    known = {case.model for case in (*rows, *ablations(steps, guidance))}
    others = [method.name for method in METHODS if folder(method.name) not in known]
    return rows + [replace(ours, name=name, model=folder(name)) for name in others]


def ablations(steps: int, guidance: float) -> list[Case]:
    """One change at a time to the block denoiser."""
    ours = Case("rissole", num_inference_steps=steps, guidance_scale=guidance)
    return [
        ours,
        *(replace(ours, name=f"k = {k}", k=k) for k in (1, 4, 16)),
        replace(ours, name="no neighbors", k=0),
        replace(ours, name="random pictures as neighbors", neighbors="random"),
        replace(ours, name="random pictures of the class", neighbors="class"),
        *(replace(ours, name=f"guidance {g}", guidance_scale=g) for g in GUIDANCE if g != guidance),
        *(replace(ours, name=f"{n} steps", num_inference_steps=n) for n in STEPS if n != steps),
        replace(ours, name="trained without halo", model="no-halo"),
        replace(ours, name="trained without canvas", model="no-canvas"),
    ]
