"""The one trainer: learning rate, gradients, averages, history, and checkpoints to go on from.

A stage gives it modules, functions that compute losses, and batches:

    trainer = Trainer({"model": Trained(model, peak_rate=1e-3)}, generator, state_folder(out))
    trainer.fit([losses], batches, budget, keep=lambda history: model.save(out))

What `fit` leaves every few minutes in the state's folder (weights, optimizers, averages, random
numbers, the order of the pictures, how far it came) lets a later process go on as if nothing had
been: on a CPU, and where the budget is in steps, to the last bit.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.training.budget import Budget as Budget  # all that a stage needs is found here
from rissole.training.budget import Session, session_of
from rissole.training.checkpoint import Checkpoints, State, check_learned
from rissole.training.checkpoint import History as History
from rissole.training.graphs import replays
from rissole.training.interrupts import Interrupts
from rissole.training.learner import Learner, Trained
from rissole.training.progress import Progress
from rissole.training.stage import checkpoints_in
from rissole.training.together import processes, rank, tell
from rissole.training.watch import Diverged, Watch

Losses = Callable[[Tensor], dict[str, Tensor]]  # of a batch's numbers; adds gradients


class Batches:
    """Index tensors (batch,) that visit every item once per epoch, in random order, for ever."""

    def __init__(self, count: int, batch: int, generator: torch.Generator):
        self.count, self.batch, self.generator = count, batch, generator
        self.pool = torch.empty(0, dtype=torch.long, device=generator.device)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        like: Any = {"generator": self.generator, "device": self.generator.device}
        epochs = math.ceil((self.batch - len(self.pool)) / self.count)  # none while there are some
        drawn = [torch.randperm(self.count, **like) for _ in range(epochs)]
        self.pool = torch.cat([self.pool, *drawn]) if drawn else self.pool
        batch, self.pool = self.pool[: self.batch], self.pool[self.batch :]
        return batch


class Trainer:
    """Trains modules together; goes on from the checkpoints of an earlier process.

    Args:
        trained: modules by name, and how each is trained.
        generator: what losses and batches draw from, on the device.
        state: folder of checkpoints to go on from, and to leave for the next session.
        schedule: the part of the learning-rate schedule that the budget covers; a run in two
            sessions is (0, 0.5), then (0.5, 1).
        seed: of the kinds of steps, and of dropout.
        follow: told, before each step and after the last, how much of the schedule is done.
    """

    session: Session

    def __init__(
        self,
        trained: Mapping[str, Trained],
        generator: torch.Generator,
        state: Path,
        *,
        schedule: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
        follow: Callable[[float], None] | None = None,
    ):
        torch.set_float32_matmul_precision("high")  # products may use the tensor cores
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 4  # trying all kernels takes longer than it saves
        self.generator, self.schedule = generator, schedule
        self.followers = [follow] if follow else []
        self.learners = {name: Learner(how) for name, how in trained.items()}
        self.seed = seed + int(1000 * schedule[0])
        self.kinds = torch.Generator().manual_seed(self.seed)
        self.checkpoints = Checkpoints(state)
        self.found = self.checkpoints.newest(self._restore)
        self.steps, self.history = self.found.steps, History()
        self.written = self.steps  # in the last checkpoint

    def _restore(self, found: State) -> None:
        """Takes over what an earlier process left.

        Raises:
            RissoleError: when that one trained something else.
        """
        drawn = found.part("random").keys() - {"cuda"}
        same = found.parts.keys() == {*self.learners, "random"}
        same = same and drawn == {"kinds", "torch", "generator", "pool"}
        if not same or not all(one.fits(found.part(n)) for n, one in self.learners.items()):
            raise RissoleError(f"step {found.steps} is of another network or other settings")
        for name, learner in self.learners.items():
            learner.restore(found.part(name))

    @property
    def minutes(self) -> float:
        """Of device time in all sessions."""
        _, spent, _ = self.session.today
        return self.found.minutes + (self.session.spent - spent) * processes()

    def fit(
        self,
        losses: Sequence[Losses],
        batches: Batches,
        budget: Budget,
        keep: Callable[[History], None],
        *,
        shares: Sequence[float] = (1.0,),
        title: str = "",
        recorded: bool = True,
        every: int = 100,
    ) -> History:
        """Trains until the budget is spent or somebody ends it; saves in between.

        Args:
            losses: kinds of steps; all draw from the trainer's generator.
            batches: numbers of what a step sees.
            budget: of this session.
            keep: writes what the stage is for, with averaged weights in the modules.
            shares: how often each kind of step is taken.
            title: of the progress bar.
            recorded: on CUDA, record steps once and replay them.
            every: steps that the history averages over.

        Returns:
            The history of the losses.

        Raises:
            RissoleError: when losses, gradients or weights are not finite, or nothing can be
                written; the last checkpoint stays.
            KeyboardInterrupt, SystemExit: when ended by a signal, after saving.
        """
        self._begin(batches, budget, title)
        session, watch = self.session, Watch(every)
        steps: Sequence[Callable[[Tensor], dict[str, Tensor]]]
        steps = [partial(self._learn, one) for one in losses]
        steps = replays(steps, self.generator) if recorded else steps
        with Interrupts() as interrupts, self._random_state(batches):
            with Progress(session, title, every, self.history) as bar:
                while not (session.over or interrupts.wanted(session.step)):
                    kind = int(torch.multinomial(torch.tensor(shares), 1, generator=self.kinds))
                    bar.report(self._step(steps[kind], next(batches), watch))
                    if session.due(budget.saved) and (why := self._save(batches, watch)):
                        tell(f"note: not saved, the checkpoint before stays: {why}")
            self._tell_followers()
            self._finish(batches, watch, keep, interrupts)
        return self.history

    def _begin(self, batches: Batches, budget: Budget, title: str) -> None:
        """Goes on with an unfinished session, or begins one; says which.

        A budget that nobody asked for adds nothing to a finished one.

        Raises:
            RissoleError: when there is no space for what will be written.
        """
        anew = self.found.finished and budget.asked
        before = None if anew else self.found.session
        self.session = session_of(budget, self.schedule, before)
        if self.session.step:
            self.history.extend(self.found.history)
            tell(f"resumed {title} at {self.session}")
        elif self.steps:
            tell(f"resumed {title} after {self.steps} steps, for another session")
        if self.steps and self.found.pictures != batches.count:
            tell(f"note: it began with {self.found.pictures} pictures, there are {batches.count}")
        # weights, two moments and an average; three checkpoints while one replaces another
        weights = sum(p.numel() for one in self.learners.values() for p in one.module.parameters())
        more = max(1, 3 - len(checkpoints_in(self.checkpoints.folder)))
        check_space(self.checkpoints.folder, more * 4 * 4 * weights)

    def _learn(self, losses: Losses, index: Tensor) -> dict[str, Tensor]:
        for learner in self.learners.values():
            learner.gradients.clear()
        return losses(index)

    def _step(
        self, step: Callable[[Tensor], dict[str, Tensor]], index: Tensor, watch: Watch
    ) -> dict[str, Tensor]:
        """One step on a batch (B,) of pictures; returns its losses."""
        session = self.session
        self._tell_followers()
        values = step(index)
        norms = {f"the gradient of {n}": one.prepare() for n, one in self.learners.items()}
        watch.see(session.step, index, {**values, **norms})
        # a session that begins within the schedule goes on with its warm-up, another one anew
        warming = self.steps if self.schedule[0] > 0 else session.step
        for learner in self.learners.values():
            learner.update(session.overall, warming, self.steps)
        self.steps += 1
        session.advance()
        return values

    def _tell_followers(self) -> None:
        for follow in self.followers:
            follow(self.session.overall)

    @contextmanager
    def _random_state(self, batches: Batches) -> Iterator[None]:
        """Random numbers go on where the last process stopped; dropout's are torch's own."""
        device = self.generator.device
        cuda = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            drawn = self.found.part("random")
            fresh = torch.Generator().manual_seed(self.seed)
            torch.set_rng_state(drawn.get("torch", fresh.get_state()))
            if cuda:
                fresh = torch.Generator(device).manual_seed(self.seed + 10_000 * rank())
                torch.cuda.set_rng_state(drawn.get("cuda", fresh.get_state()), device)
            if drawn:
                self.kinds.set_state(drawn["kinds"])
                if rank() == 0 and drawn["generator"].shape == self.generator.get_state().shape:
                    self.generator.set_state(drawn["generator"])
                else:  # another process, or another kind of device
                    self.generator.manual_seed(self.generator.initial_seed() + self.steps)
                if rank() == 0 and self.found.pictures == batches.count:
                    batches.pool = drawn["pool"].to(device)
            yield

    def _save(self, batches: Batches, watch: Watch) -> RissoleError | None:
        """Writes a checkpoint, if there was a step since the one before.

        Returns:
            Why it could not be written.

        Raises:
            Diverged: when what was learned is not finite.
        """
        watch.check()
        check_learned(learner.module for learner in self.learners.values())
        self.session.saved = (self.session.step, self.session.spent)
        if rank() or self.steps == self.written:
            return None
        parts = {name: learner.tensors() for name, learner in self.learners.items()}
        if any(not t.isfinite().all() for part in parts.values() for t in part.values()):
            raise Diverged("the averages or moments are")
        parts["random"] = {
            "kinds": self.kinds.get_state(),
            "torch": torch.get_rng_state(),
            "generator": self.generator.get_state(),
            "pool": batches.pool,
        }
        if self.generator.device.type == "cuda":
            parts["random"]["cuda"] = torch.cuda.get_rng_state(self.generator.device)
        state = State(self.steps, self.minutes, batches.count, self.session, self.history, parts)
        try:
            self.checkpoints.write(state)
        except RissoleError as error:  # a full disk may be emptied until the next time
            return error
        self.written = self.steps
        return None

    def _finish(
        self,
        batches: Batches,
        watch: Watch,
        keep: Callable[[History], None],
        interrupts: Interrupts,
    ) -> None:
        """Saves, and writes what the stage is for unless somebody is in a hurry."""
        failed = self._save(batches, watch)
        interrupts.cuttable = True
        whole = self.steps > 0 and not interrupts.urgent
        if whole:
            for learner in self.learners.values():
                learner.end()
            known = self.found.finished and self.steps == self.found.steps
            if rank() == 0 and not known:
                keep(self.history)
        if failed:
            raise failed
        if not whole or self.session.progress < 1:
            tell(f"saved at {self.session}: the same command with --resume goes on")
        elif rank() == 0:
            self.checkpoints.finish(self.steps)
        interrupts.end()


def check_space(folder: Path, needed: int) -> None:
    """Refuses to begin what there is no space to keep.

    Args:
        folder: to write into; it may not exist yet.
        needed: bytes.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        sizes = f"{needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free"
        raise RissoleError(f"no space for the checkpoints in {folder}: they need {sizes}")


def generator_for(seed: int, device: str | torch.device) -> torch.Generator:
    """The random numbers of a stage; every process that trains with others has its own."""
    return torch.Generator(device).manual_seed(seed + 10_000 * rank())


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251 - torch's layers draw from the global generator
        return make()
