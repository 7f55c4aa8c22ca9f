"""RISSOLE: compact diffusion models that paint a picture block by block, guided by retrieval."""

import os
from typing import TYPE_CHECKING

from rissole.config import RissoleError

if TYPE_CHECKING:
    from rissole.pipeline import RissolePipeline

# OpenMP's threads would wait for each other busily, which beside any other load on the same cores
# costs a multiple; torch reads this once, when it is imported. Whoever sets it has the last word.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
__all__ = ["RissoleError", "RissolePipeline"]


def __getattr__(name: str) -> object:
    # torch and diffusers load only when they are needed, so that `--help` answers at once
    if name == "RissolePipeline":
        from rissole.pipeline import RissolePipeline

        return RissolePipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
