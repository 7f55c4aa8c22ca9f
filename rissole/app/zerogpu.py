"""Spaces whose GPU is lent for each call ("ZeroGPU"); elsewhere none of this costs anything.

Their package `spaces` has to be imported before torch, and functions that compute have to say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def on_zerogpu() -> bool:
    """Whether this is such a Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t", "yes")


def prepare() -> None:
    """Imports `spaces` on such a Space; call it before anything imports torch."""
    if on_zerogpu():
        import spaces  # noqa: F401


def lease(work: float) -> int:
    """Seconds to lend a GPU for so many evaluations, see `cost`: generous, but no queue likes long
    ones."""
    return int(min(120, 10 + work / 20))


def on_gpu(seconds: int | Callable[..., int] = 60) -> Callable[[Function], Function]:
    """Decorates a function, or a generator, that computes for at most so long.

    Elsewhere the function is returned as it is.

    Args:
        seconds: or what tells them from the arguments of a call.
    """
    if not on_zerogpu():
        return lambda function: function
    import spaces

    return spaces.GPU(duration=seconds)
