"""RISSOLE: compact diffusion models that paint a picture block by block, guided by retrieval."""

from typing import TYPE_CHECKING

from rissole.config import RissoleError

if TYPE_CHECKING:
    from rissole.pipeline import RissolePipeline

__version__ = "0.2.0"
__all__ = ["RissoleError", "RissolePipeline"]


def __getattr__(name: str) -> object:
    # torch and diffusers load only when they are needed, so that `--help` answers at once
    if name == "RissolePipeline":
        from rissole.pipeline import RissolePipeline

        return RissolePipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
