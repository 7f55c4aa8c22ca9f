"""What every stage shares: a time or step budget, a learning rate, checkpoints that resume."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.denoiser import SavedNetwork
from rissole.files import save_tensors, write_atomic
from rissole.training.graphs import Replay

EMA_EVERY = 4  # steps between updates of the average, which touches all weights
DIVERGED = (
    "training diverged: {what} not finite (NaN or infinity), so nothing was written; "
    "a lower peak_rate may help"
)


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


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall time, or a number of steps; whichever ends first."""

    minutes: float = math.inf
    steps: int | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields `(step, progress)` with progress from 0 to 1 until the budget is spent."""
        start, step, by_time = time.monotonic(), 0, 0.0
        while True:
            if processes() == 1 or step % 20 == 0:  # clocks differ: the first process decides
                by_time = agreed((time.monotonic() - start) / (60 * self.minutes))
            by_steps = step / self.steps if self.steps is not None else 0.0
            progress = max(by_steps, by_time)
            if progress >= 1:
                return
            yield step, progress
            step += 1


def learning_rate(progress: float, step: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to a hundredth of the peak."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets one learning rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value


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

    def clip(self, norm: float = 1.0) -> None:
        """Scales all down to a joint norm."""
        self.flat *= (norm / self.flat.norm().clamp(min=1e-6)).clamp(max=1.0)


class Progress:
    """A progress bar over a budget that shows running means of what a step reports."""

    def __init__(self, budget: Budget, title: str, every: int = 25):
        self.budget, self.title, self.every = budget, title, every
        self.history: list[dict[str, float]] = []
        self.diverged = False

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yields the budget's `(step, progress)`."""
        shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
        bar = tqdm(total=1000, desc=self.title, bar_format=shape, mininterval=2, disable=rank() > 0)
        self.bar, self.sums, self.count = bar, {}, 0
        spent = False
        try:
            for step, progress in self.budget:
                bar.update(int(progress * 1000) - bar.n)
                yield step, progress
            bar.update(1000 - bar.n)
            spent = True
        finally:
            bar.close()
            # who pressed Ctrl-C shall wait, not press it again
            if not (spent or self.diverged or rank()):
                print("keeping what was learned", file=sys.stderr)

    def report(self, step: int, **values: Tensor | float) -> None:
        """Adds a step's losses; prints their means now and then: reading them waits.

        Raises:
            RissoleError: when such a mean is NaN or infinite: no later step would mend that.
        """
        self.count += 1
        for name, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + value
        if self.count >= self.every:
            means = {k: float(v) / self.count for k, v in self.sums.items()}
            self._check(step, means)
            self.history.append({"step": step, **means})
            self.bar.set_postfix_str(
                f"step {step} " + " ".join(f"{k} {v:.4g}" for k, v in means.items())
            )
            self.sums, self.count = {}, 0

    def _check(self, step: int, means: dict[str, float]) -> None:
        odd = [name for name, value in means.items() if not math.isfinite(value)]
        if odd:
            self.diverged = True
            raise RissoleError(DIVERGED.format(what=f"{odd[0]} by step {step} is"))


def check_finite(*parts: nn.Module | Iterable[Tensor]) -> None:
    """Refuses weights that hold NaN or infinity, or would in the half precision they are kept in.

    Call it before the first of several files is written, so that they stay those of one moment.

    Raises:
        RissoleError: one line for whoever started the training.
    """
    for part in parts:
        tensors = part.state_dict().values() if isinstance(part, nn.Module) else part
        if not all(t.half().isfinite().all() for t in tensors if t.is_floating_point()):
            raise RissoleError(DIVERGED.format(what="the weights are"))


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes a module's weights atomically as safetensors.

    Raises:
        RissoleError: if they are not finite; what was there before stays.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(state, path)


def load_weights(path: Path, model: nn.Module) -> bool:
    """Loads weights when the file is there; tells whether it was."""
    if not path.exists():
        return False
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return True


def write_json(path: Path, data: object) -> None:
    """Writes readable JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"{json.dumps(data, indent=2)}\n".encode())


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


def session_seed(seed: int, weights: Path) -> int:
    """The seed of a run's batches and noise: another one each time it goes on.

    Otherwise many short sessions would see the first pictures of one epoch over and over.

    Args:
        weights: file that an earlier session left; without it the seed is the one given.
    """
    if not weights.exists():
        return seed
    return seed + int(hashlib.sha256(weights.read_bytes()).hexdigest()[:8], 16)


def draw(seed: int, schedule: tuple[float, float], device: str) -> torch.Generator:
    """The random numbers of a part of a run; every process, and every part, has its own."""
    part = seed + int(1000 * schedule[0]) + 10_000 * rank()
    return torch.Generator(device).manual_seed(part)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - torch's layers draw from the global generator
        return make()


def fit(
    model: SavedNetwork,
    losses: Sequence[Callable[[Tensor], Tensor]],
    shares: Sequence[float],
    batches: Iterator[Tensor],
    generator: torch.Generator,
    out: Path,
    budget: Budget,
    *,
    peak_rate: float,
    schedule: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> list[dict[str, float]]:
    """Trains a network, leaves the average of its weights in it and saves it to `out`.

    Goes on from what an earlier call left there (raw and averaged weights, optimizer).

    Args:
        losses: kinds of steps, each a function from a batch's index tensor to a loss; all kinds
            draw from `generator`.
        shares: how often each kind is taken.
        schedule: the part of the learning-rate schedule that the budget covers.

    Returns:
        The history of the losses.

    Raises:
        RissoleError: when the weights are not finite; `out` is as it was.
    """
    fast_matmul()
    seed = session_seed(seed, out / "raw.safetensors")
    load_weights(out / "raw.safetensors", model)
    gradients = Gradients([model])
    ema = _average(out, model)
    optimizer = _optimizer(out, model, peak_rate)
    steps = _recorded(losses, gradients, generator)
    cpu = torch.Generator().manual_seed(seed + int(1000 * schedule[0]))
    bar = Progress(budget, out.name, every=100)
    start = time.monotonic()
    try:
        for step, progress in bar:
            overall = schedule[0] + progress * (schedule[1] - schedule[0])
            set_learning_rate(optimizer, learning_rate(overall, step, peak_rate))
            kind = torch.multinomial(torch.tensor(shares), 1, generator=cpu).item()
            values = steps[kind](next(batches))
            gradients.exchange()
            gradients.clip()
            optimizer.step()
            if step % EMA_EVERY == 0:
                ema.step(model.parameters())
            bar.report(step, **values)
    finally:  # Ctrl-C keeps what was learned
        check_finite(model, ema.shadow_params)
        if rank() == 0:
            save_weights(out / "raw.safetensors", model)
            _save_optimizer(out / "optimizer.pt", optimizer)
        ema.copy_to(model.parameters())
        if rank() == 0:
            save_weights(out / "ema.safetensors", model)
            model.save(out)
            write_atomic(out / "ema_step.txt", str(ema.optimization_step).encode())
            _note_time(out / "minutes.json", (time.monotonic() - start) / 60 * processes())
    return bar.history


def _note_time(path: Path, minutes: float) -> None:
    """Adds to the device minutes that were spent on a network."""
    before = json.loads(path.read_text())["minutes"] if path.exists() else 0.0
    write_json(path, {"minutes": before + minutes})


def _recorded(
    losses: Sequence[Callable[[Tensor], Tensor]], gradients: Gradients, generator: torch.Generator
) -> list[Replay]:
    def learn(loss: Callable[[Tensor], Tensor], index: Tensor) -> dict[str, Tensor]:
        gradients.clear()
        value = loss(index)
        value.backward()
        return {"loss": value.detach()}

    steps: list[Replay] = []
    for loss in losses:
        pool = steps[0] if steps else None
        steps.append(Replay(partial(learn, loss), generator, pool))
    return steps


def _optimizer(out: Path, model: nn.Module, rate: float) -> torch.optim.AdamW:
    fused = next(model.parameters()).is_cuda
    optimizer = torch.optim.AdamW(
        model.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused
    )
    if (out / "optimizer.pt").exists():
        optimizer.load_state_dict(torch.load(out / "optimizer.pt", weights_only=True))
    return optimizer


def _save_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    write_atomic(path, buffer.getvalue())


def _average(out: Path, model: nn.Module) -> EMAModel:
    """A moving average of the weights, going on from an earlier run's where there is one."""
    decay = 0.9995**EMA_EVERY
    ema = EMAModel(model.parameters(), decay=decay, use_ema_warmup=True, power=0.75, foreach=True)
    path = out / "ema.safetensors"
    if path.exists():
        stored = load_file(path)
        for shadow, (name, _) in zip(ema.shadow_params, model.named_parameters(), strict=True):
            shadow.data.copy_(stored[name])
        ema.optimization_step = int((out / "ema_step.txt").read_text())
    return ema


def fast_matmul() -> None:
    """Lets float32 products use the tensor cores and cuDNN choose its kernels."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
