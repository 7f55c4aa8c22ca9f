"""What a stage of training is, and which there are.

A stage is a class in a file of its own: what it is called, its settings, what it needs and writes,
and how it runs. Those of this package are all `*_stage.py` beside this file; they load what
computes when they run, so that the command line can list them at once. A stage from elsewhere
registers itself the same way:

    @dataclass(frozen=True)
    class ToySettings:
        times: int = 2

    @STAGES.register
    class Toy(Stage):
        name = "toy"
        help = "counts photos."
        settings = ToySettings

        def run(self, job, settings):
            count = settings.times * len(job.photos.photos)
            self.target(job.run, settings).write_text(str(count))
            return {"photos": count}
"""

from __future__ import annotations

import graphlib
import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rissole.config import RissoleError, quoted
from rissole.registry import Registry
from rissole.training.hyperparameters import Positive as Positive  # stages from elsewhere use it

if TYPE_CHECKING:
    from rissole.data.photos import Labelled
    from rissole.training.budget import Budget

CELLS = 16  # a latent's side is a multiple of it: 4x4 blocks, whole at a quarter of their size


@dataclass(frozen=True)
class Job:
    """What a stage is run with.

    Attributes:
        run: folder of the run, where every stage reads and writes.
        budget: how long to train.
        device: where to compute.
        seed: of everything random.
        size: side of the photos, in pixels.
        resume: whether to go on from what an earlier session of the stage left.
        read: reads the photos; stages ask for `photos`.
    """

    run: Path
    budget: Budget
    device: str
    seed: int
    size: int
    resume: bool
    read: Callable[[], Labelled]

    @property
    def photos(self) -> Labelled:
        """The photos of `--data`, cut to `--size`."""
        return self.read()


@dataclass(frozen=True)
class NoSettings:
    """Of a stage that has none."""


class Stage:
    """A stage of training.

    Attributes:
        name: of the stage, and of what it writes.
        help: one line for the command line.
        settings: a dataclass; a JSON file may set its fields, options of the command line too.
        needs: stages that must have run before.
        uses: stages whose results are taken where they are.
        reads_photos: whether it needs `--data`.
        shared: whether several processes may train it together.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    settings: ClassVar[type] = NoSettings
    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    reads_photos: ClassVar[bool] = True
    shared: ClassVar[bool] = False

    def target(self, run: Path, settings: Any) -> Path:
        """The file or folder that the stage writes."""
        return run / self.name

    def state(self, run: Path, settings: Any) -> Path | None:
        """The folder of checkpoints it goes on from; None for a stage that does not train."""
        return state_folder(self.target(run, settings))

    def prepare(self, job: Job, settings: Any) -> None:
        """Refuses what cannot work, now or at the end, before anything is read or trained."""
        from rissole.storage.manifest import NAME

        target, state = self.target(job.run, settings), self.state(job.run, settings)
        begun = state is not None and bool(checkpoints_in(state))
        made = begun if target == state else target.exists()
        if (made or begun) and not job.resume:
            what = target if made else f"an unfinished training of {target}"
            raise RissoleError(f"{what} exists: add --resume to go on, or choose another --out")
        if made and state is not None and not begun:
            raise RissoleError(f"{state} is missing: without it {target} cannot be trained on")
        if state is not None and job.resume and not begun:
            print(f"note: nothing to resume in {state}: starting anew", file=sys.stderr)
        for name in self.needs:
            stage = STAGES[name]()
            if not (path := stage.target(job.run, stage.settings())).exists():
                raise RissoleError(f"{path} is missing: run --stage {name} first")
        if not NAME.fullmatch(name := job.run.resolve().name):
            rule = "the folder's name is the bundle's: letters, digits, dot, dash and underscore"
            raise RissoleError(f"--out {quoted(name)}: {rule}")
        for folder in filter(None, (job.run, target, state)):
            if folder == job.run or folder.is_dir():
                check_writable(folder)

    def run(self, job: Job, settings: Any) -> dict[str, Any]:
        """Runs the stage and returns its figures."""
        raise NotImplementedError


def check_cut(job: Job) -> None:
    """Refuses sizes of photos whose latents no denoiser could cut into blocks."""
    from rissole.models.autoencoder import Codec

    factor = Codec.load(job.run / "autoencoder").vae_scale_factor
    if job.size % (whole := CELLS * factor):
        raise RissoleError(f"--size must be a multiple of {whole}, not {job.size}")


def state_folder(out: Path) -> Path:
    """Where the training of a part of a run keeps its checkpoints: `RUN/state/PART/`."""
    return out.parent / "state" / out.stem


def checkpoints_in(state: Path) -> list[Path]:
    """The checkpoints in such a folder, the newest first."""
    return sorted(state.glob("step-*"), reverse=True)


def check_writable(folder: Path) -> None:
    """Refuses a folder that nothing can be written into; makes one that is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RissoleError(f"cannot write into {folder}: {error.strerror or error}") from error


class _Stages(Registry[type[Stage]]):
    """Stages by name; finds those of this package when it is first asked."""

    def names(self) -> list[str]:
        """All names, in an order in which they can run."""
        for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
            if module.name.endswith("_stage"):
                importlib.import_module(f"rissole.training.{module.name}")
        known = super().names()
        before = {name: {*self._entries[name].needs, *self._entries[name].uses} for name in known}
        order = graphlib.TopologicalSorter(before).static_order()
        return [name for name in order if name in self._entries]

    def __iter__(self) -> Iterator[type[Stage]]:
        return iter([self._entries[name] for name in self.names()])


STAGES = _Stages("--stage")
