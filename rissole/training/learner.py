"""A module with its optimizer, gradients and average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from rissole.training.together import processes


def learning_rate(progress: float, step: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to a hundredth of the peak."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class Gradients:
    """The gradients of all trained parameters, in one buffer that stays where it is.

    Recorded steps need them at the same address; one buffer is cleared, clipped and exchanged
    between processes by one kernel.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in trained), device=trained[0].device)
        start = 0
        for p in trained:  # the same strides as its parameter: fused optimizers need that
            p.grad = self.flat.as_strided(p.shape, p.stride(), start)
            start += p.numel()

    def clear(self) -> None:
        """Sets all to 0."""
        self.flat.zero_()

    def exchange(self) -> None:
        """Averages over the processes that train together."""
        if processes() > 1:
            torch.distributed.all_reduce(self.flat)
            self.flat /= processes()

    def clip(self, limit: float | None) -> Tensor:
        """Scales all down to a joint norm, unless it is None; returns the norm they had."""
        norm = self.flat.norm()
        if limit is not None:
            self.flat *= (limit / norm.clamp(min=1e-6)).clamp(max=1.0)
        return norm


@dataclass(frozen=True)
class Average:
    """Moving averages of the weights.

    Attributes:
        decays: for each the share that an update keeps of what was there, once it is warm; the
            first is that of the average that a training ends with.
        every: steps between updates, which touch all weights.
    """

    decays: tuple[float, ...]
    every: int


@dataclass(frozen=True)
class Trained:
    """A module and how it is trained.

    Attributes:
        module: parameters that do not require gradients stay as they are.
        peak_rate: highest learning rate of AdamW.
        steady: keep that rate in place of warming up and cooling down.
        betas, weight_decay: of AdamW; only weights of layers decay, not norms, biases and tokens.
        clip: joint norm that gradients are scaled down to; None leaves them.
        average: averages of the weights; None ends with the last ones.
    """

    module: nn.Module
    peak_rate: float
    steady: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float | None = 1.0
    average: Average | None = None


class Learner:
    """Optimizer, gradients and averages of a module."""

    def __init__(self, how: Trained):
        self.how, self.module = how, how.module
        trained = [p for p in self.module.parameters() if p.requires_grad]
        layers, others = ([p for p in trained if (p.dim() > 1) == is_layer]
                          for is_layer in (True, False))  # fmt: skip
        self.parameters = [*layers, *others]  # in the order in which the optimizer counts them
        groups: list[Any] = [{"params": others, "weight_decay": 0.0}] if others else []
        if layers:
            groups.insert(0, {"params": layers, "weight_decay": how.weight_decay})
        self.optimizer = torch.optim.AdamW(
            groups, how.peak_rate, betas=how.betas, fused=trained[0].is_cuda
        )
        self.gradients = Gradients([self.module])
        self.averages = [
            EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)
            for decay in (how.average.decays if how.average else ())
        ]

    def prepare(self) -> Tensor:
        """Makes the gradients ready for `update`; returns their norm, which must be finite."""
        self.gradients.exchange()
        return self.gradients.clip(self.how.clip)

    def update(self, progress: float, warming: int, step: int) -> None:
        """One step of the optimizer by the gradients that are there.

        Args:
            progress: through the learning-rate schedule, 0 to 1.
            warming: steps since the warm-up began.
            step: steps of all sessions.
        """
        how = self.how
        if not how.steady:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(progress, warming, how.peak_rate)
        self.optimizer.step()
        if how.average and step % how.average.every == 0:
            for average in self.averages:
                average.step(self.parameters)

    @contextmanager
    def averaged(self, number: int) -> Iterator[None]:
        """The module has the weights of one of its averages for a while."""
        self.averages[number].store(self.parameters)
        self.averages[number].copy_to(self.parameters)
        try:
            yield
        finally:
            self.averages[number].restore(self.parameters)

    def end(self) -> None:
        """Leaves the module with its first average, if it has any."""
        for average in self.averages[:1]:
            average.copy_to(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        """All that a later session needs, by name."""
        found = {f"weights.{name}": value for name, value in self.module.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        return found | self._average_tensors()

    def _average_tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for which, average in enumerate(self.averages):
            shadows = enumerate(average.shadow_params)
            found |= {f"average.{which}.{number}": value for number, value in shadows}
            found[f"average.{which}.steps"] = torch.tensor(average.optimization_step)
        return found

    def fits(self, found: Mapping[str, Tensor]) -> bool:
        """Whether tensors are just those of `tensors` after a step: in names, shapes and types."""
        like = {f"weights.{name}": value for name, value in self.module.state_dict().items()}
        for number, weights in enumerate(self.parameters):
            like |= {f"optimizer.{number}.{key}": weights for key in ("exp_avg", "exp_avg_sq")}
            like[f"optimizer.{number}.step"] = torch.zeros(())
        like |= self._average_tensors()
        return found.keys() == like.keys() and all(
            (value.shape, value.dtype) == (like[name].shape, like[name].dtype)
            for name, value in found.items()
        )

    def restore(self, found: Mapping[str, Tensor]) -> None:
        """Takes over what an earlier session left, if it fits."""
        weights = {name: found[f"weights.{name}"] for name in self.module.state_dict()}
        self.module.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in found.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".")
                like = self.parameters[int(place)]
                if value.shape == like.shape:  # in its parameter's layout, as fused kernels want
                    value = torch.empty_like(like).copy_(value)
                moments.setdefault(int(place), {})[key] = value
        self.optimizer.load_state_dict(
            {"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        for which, average in enumerate(self.averages):
            for number, shadow in enumerate(average.shadow_params):
                shadow.data.copy_(found[f"average.{which}.{number}"])
            average.optimization_step = int(found[f"average.{which}.steps"])
