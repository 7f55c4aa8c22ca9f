"""What every stage shares: a time or step budget, a learning rate, checkpoints that resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall time, or a number of steps; whichever ends first."""

    minutes: float = math.inf
    steps: int | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields `(step, progress)` with progress from 0 to 1 until the budget is spent."""
        start, step = time.monotonic(), 0
        while (progress := self._progress(step, time.monotonic() - start)) < 1:
            yield step, progress
            step += 1

    def _progress(self, step: int, seconds: float) -> float:
        by_steps = step / self.steps if self.steps is not None else 0.0
        return max(by_steps, seconds / (60 * self.minutes))


def learning_rate(progress: float, step: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to a hundredth of the peak."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets one learning rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value


class Progress:
    """A progress bar over a budget that shows running means of what a step reports."""

    def __init__(self, budget: Budget, title: str, every: int = 25):
        self.budget, self.title, self.every = budget, title, every
        self.history: list[dict[str, float]] = []

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields the budget's `(step, progress)`."""
        bar = tqdm(total=1000, desc=self.title, bar_format="{desc} {percentage:3.0f}%|{bar}| "
                   "{elapsed}<{remaining} {postfix}", mininterval=2)  # fmt: skip
        self.bar, self.sums, self.count = bar, {}, 0
        try:
            for step, progress in self.budget:
                bar.update(int(progress * 1000) - bar.n)
                yield step, progress
            bar.update(1000 - bar.n)
        finally:
            bar.close()

    def report(self, step: int, **values: Tensor | float) -> None:
        """Adds a step's losses; prints their means now and then: reading them waits."""
        self.count += 1
        for name, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + value
        if self.count >= self.every:
            means = {k: float(v) / self.count for k, v in self.sums.items()}
            self.history.append({"step": step, **means})
            self.bar.set_postfix_str(
                f"step {step} " + " ".join(f"{k} {v:.4g}" for k, v in means.items())
            )
            self.sums, self.count = {}, 0


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes a module's weights atomically as safetensors."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(state, partial)
    partial.replace(path)


def load_weights(path: Path, model: nn.Module) -> bool:
    """Loads weights when the file is there; tells whether it was."""
    if not path.exists():
        return False
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return True


def write_json(path: Path, data: object) -> None:
    """Writes readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n")


def infinite_batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index tensors (batch,) that visit every item once per epoch, in random order, for ever."""
    pool = torch.empty(0, dtype=torch.long, device=generator.device)
    while True:
        while len(pool) < batch:
            pool = torch.cat(
                [pool, torch.randperm(count, generator=generator, device=generator.device)]
            )
        yield pool[:batch]
        pool = pool[batch:]


def fast_matmul() -> None:
    """Lets float32 products use the tensor cores and cuDNN choose its kernels."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
