"""Checkpoints of a training: each a folder that appears whole or not at all, and holds no pickle.

    RUN/state/STAGE/step-00001200/   state.safetensors, progress.json, manifest.json
                    step-00001100/   the one before
                    finished.json    the step at which what the stage is for was written

A checkpoint is built beside its place, flushed to disk and renamed; then all but the last two go.
One that is damaged is named, and the one before it used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.storage.files import save_tensors, write_atomic
from rissole.storage.manifest import verify, write_manifest
from rissole.storage.staging import clear_abandoned, discard, make_room, staged
from rissole.training.budget import Session
from rissole.training.stage import checkpoints_in
from rissole.training.together import tell
from rissole.training.watch import Diverged

TENSORS, PROGRESS, FINISHED = "state.safetensors", "progress.json", "finished.json"
History = list[dict[str, float]]


@dataclass(frozen=True)
class Standing:
    """Where a training stands.

    Attributes:
        steps: taken in all sessions.
        minutes: of device time in all sessions.
        pictures: there were to learn from.
        session: the last one.
        history: of its losses.
    """

    steps: int = 0
    minutes: float = 0.0
    pictures: int = 0
    session: Session | None = None
    history: History = field(default_factory=list)


@dataclass(frozen=True)
class State(Standing):
    """A standing, and all that is needed to go on from it.

    Attributes:
        parts: tensors by name, of each module that is trained and of `random` numbers.
        finished: whether what the session was for is written.
    """

    parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    finished: bool = False

    def part(self, name: str) -> Mapping[str, Tensor]:
        """Tensors of a part; none before the first session."""
        return self.parts.get(name, {})


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.last: Path | None = None  # read or written by us, and so known to be whole

    def newest(self, take: Callable[[State], None] = lambda state: None) -> State:
        """The newest that is whole and fits; the state before the first session if there is none.

        Args:
            take: takes a state over; its RissoleError means that the state does not fit.

        Raises:
            RissoleError: when there are some, but none that is whole and fits.
        """
        refused = []
        for folder in checkpoints_in(self.folder):
            try:
                state = self._read(folder)
                take(state)
            except RissoleError as error:
                refused.append(str(error))
                continue
            for line in refused:
                tell(f"note: {line}: going on from the checkpoint before it")
            self.last = folder
            return state
        if refused:
            line = f"no checkpoint in {self.folder} can be gone on from, delete it to start anew"
            raise RissoleError(f"{line}: {refused[0]}")
        return State()

    def write(self, state: State) -> None:
        """Writes a checkpoint; keeps the one before it and no others.

        Raises:
            RissoleError: when the file system does not let it; what was there before stays.
        """
        target = self.folder / f"step-{state.steps:08}"
        tensors = {
            f"{part}/{name}": value.detach().cpu().contiguous()
            for part, some in state.parts.items()
            for name, value in some.items()
        }
        make_room(target)
        with staged(target) as stage:
            save_tensors(tensors, stage / TENSORS)
            write_atomic(stage / PROGRESS, TypeAdapter(Standing).dump_json(state, indent=1))
            write_manifest(stage, target.name)
        for folder in checkpoints_in(self.folder):
            if folder not in (target, self.last):
                discard(folder)
        clear_abandoned(self.folder)
        self.last = target

    def finish(self, steps: int) -> None:
        """Notes that what the session was for is written, as of a step."""
        write_json(self.folder / FINISHED, {"steps": steps})

    def _read(self, folder: Path) -> State:
        """Raises RissoleError for one that is damaged."""
        verify(folder)
        parts: dict[str, dict[str, Tensor]] = {}
        try:
            raw = (folder / PROGRESS).read_bytes()
            noted = TypeAdapter(Standing).validate_json(raw, strict=True)
            with safe_open(folder / TENSORS, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - it is no dict
                    part, name = key.split("/", 1)
                    parts.setdefault(part, {})[name] = file.get_tensor(key)
        except (OSError, SafetensorError, ValueError) as error:
            raise RissoleError(f"{folder.name} is no checkpoint of a training") from error
        known = {f.name: getattr(noted, f.name) for f in fields(Standing)}
        return State(**known, parts=parts, finished=self._finished() == noted.steps)

    def _finished(self) -> int | None:
        try:
            return int(json.loads((self.folder / FINISHED).read_bytes())["steps"])
        except (OSError, ValueError, KeyError, TypeError):  # what it was for is written once more
            return None


def read_state(folder: Path) -> State:
    """The newest state in the folder of a stage."""
    return Checkpoints(folder).newest()


def check_learned(modules: Iterable[nn.Module]) -> None:
    """Refuses weights that hold NaN or infinity, or would in the half precision they are kept in.

    Raises:
        Diverged: one line for whoever started the training.
    """
    for module in modules:
        tensors = [t for t in module.state_dict().values() if t.is_floating_point()]
        if not all(t.half().isfinite().all() for t in tensors):
            raise Diverged("the weights are")


def write_json(path: Path, data: object) -> None:
    """Writes readable JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"{json.dumps(data, indent=2)}\n".encode())
