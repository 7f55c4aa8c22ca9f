"""Processes that train together; one, unless `accelerate launch` or torchrun started more."""

from __future__ import annotations

import sys

import torch
from tqdm import tqdm


def processes() -> int:
    """How many processes train together; 1 unless `accelerate launch` or torchrun started more."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def agreed(value: float) -> float:
    """The first process's value."""
    if processes() == 1:
        return value
    shared = torch.tensor(value, device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.broadcast(shared, 0)
    return shared.item()


def tell(line: str) -> None:
    """One line for whoever watches, beside a progress bar; the first process says it."""
    if rank() == 0:
        tqdm.write(line, file=sys.stderr)
