"""A training of a network with dropout, small enough to be done over and over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from rissole.training.budget import Interval
from rissole.training.learner import Average, Trained
from rissole.training.trainer import Batches, Budget, Trainer, seeded


class Noisy(nn.Module):
    """A network with dropout, which draws from torch's own random numbers."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Dropout(0.5), nn.Linear(width, 1))


def learn(
    state: Path,
    steps: int | None,
    schedule: tuple[float, float] = (0.0, 1.0),
    *,
    minutes: float = math.inf,
    saved: Interval = Interval(),  # noqa: B008 - it is frozen
    asked: bool = True,
    at: Mapping[int, Callable[[Tensor], Tensor | None]] = {},
    width: int = 8,
    out: list | None = None,
    device: str = "cpu",
) -> Noisy:
    """Trains two kinds of steps and a second module; goes on from checkpoints.

    Args:
        state: folder of the checkpoints.
        steps, minutes, saved, asked: of the budget.
        schedule: the part of it.
        at: what happens in steps, by their number; a tensor takes the place of the loss.
        width: of the network.
        out: gets the history when what was learned is kept.
        device: where to train.
    """
    model, rival = (seeded(partial(Noisy, w), s).to(device) for w, s in ((width, 3), (8, 4)))
    draw = torch.Generator(device).manual_seed(5)
    trained = {
        "model": Trained(model, 1e-2, average=Average((0.9, 0.5), every=3)),
        "rival": Trained(rival, 1e-2, steady=True, clip=None),
    }
    trainer = Trainer(trained, draw, state, schedule=schedule, seed=6)

    def losses(index: Tensor, sign: float) -> dict[str, Tensor]:
        x = torch.randn(len(index), 3, generator=draw, device=device) + index[:, None]
        loss = (model.layers(x) - sign * rival.layers(x)).square().mean()
        happens = at.get(trainer.steps)
        other = happens(loss) if happens else None
        loss = loss if other is None else other
        loss.backward()
        return {"loss": loss.detach()}

    kinds = [partial(losses, sign=sign) for sign in (1.0, -1.0)]
    budget = Budget(minutes, steps, saved, asked)
    keep = ([] if out is None else out).append
    trainer.fit(kinds, Batches(7, 3, draw), budget, keep, shares=(0.7, 0.3), title="noisy")
    return model
