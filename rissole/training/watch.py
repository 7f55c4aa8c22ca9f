"""Finds the first step whose losses or gradients are not finite, and what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rissole.config import RissoleError

SHOWN = 32  # numbers of a batch, at most, in a message
ADVICE = "a lower peak_rate may help"


class Diverged(RissoleError):
    """A training whose numbers are no longer finite; what was kept before stays."""

    def __init__(self, what: str):
        super().__init__(f"training diverged: {what} not finite (NaN or infinity); {ADVICE}")


class Seen(NamedTuple):
    """One step: its number, the pictures of its batch, and which values were finite."""

    step: int
    batch: Tensor
    names: list[str]
    finite: Tensor


class Watch:
    """Looks at every step.

    Args:
        every: steps after which an accelerator is asked, which waits for it; a processor always is.
    """

    def __init__(self, every: int):
        self.every, self.seen = every, list[Seen]()

    def see(self, step: int, batch: Tensor, values: Mapping[str, Tensor]) -> None:
        """Notes a step, before its gradients are applied.

        Args:
            step: its number.
            batch: (B,) numbers of its pictures.
            values: losses and norms of gradients, scalars.

        Raises:
            Diverged: for this step, or an earlier one that was not looked at yet.
        """
        finite = torch.stack([value.detach().isfinite().all() for value in values.values()])
        self.seen.append(Seen(step, batch, list(values), finite))
        if batch.device.type == "cpu" or len(self.seen) >= self.every:
            self.check()

    def check(self) -> None:
        """Looks at the steps that were noted.

        Raises:
            Diverged: names the step, what was odd, and the batch.
        """
        seen, self.seen = self.seen, []
        if not seen:
            return
        flags = torch.cat([one.finite for one in seen]).cpu().split([len(s.names) for s in seen])
        for one, finite in zip(seen, flags, strict=True):
            if not finite.all():
                numbers = one.batch.tolist()
                shown = ", ".join(map(str, numbers[:SHOWN]))
                more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
                name = one.names[int(finite.int().argmin())]
                raise Diverged(f"{name} of step {one.step}, pictures {shown}{more}, is")
