"""States of training in files: whole or not at all, finite or not at all, and no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.models.saving import check_finite
from rissole.storage.files import save_tensors, write_atomic

DIVERGED = (
    "training diverged: {what} not finite (NaN or infinity), so nothing was written; "
    "a lower peak_rate may help"
)


@dataclass(frozen=True)
class State:
    """Where a training stands.

    Attributes:
        parts: tensors by name, of each module that is trained and of `random` numbers.
        steps: taken in all sessions.
        minutes: of device time in all sessions.
    """

    parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    steps: int = 0
    minutes: float = 0.0

    def part(self, name: str) -> Mapping[str, Tensor]:
        """Tensors of a part; none before the first session."""
        return self.parts.get(name, {})


def write_state(path: Path, state: State) -> None:
    """Writes a state, if its weights are finite.

    Raises:
        RissoleError: for weights that are not; what was written before stays.
    """
    tensors = {
        f"{part}/{name}": value
        for part, some in state.parts.items()
        for name, value in some.items()
    }
    noted = {"steps": str(state.steps), "minutes": json.dumps(state.minutes)}
    save_weights(path, tensors, noted)


def read_state(path: Path) -> State:
    """The state in a file; that before the first session when there is none.

    Raises:
        RissoleError: for a damaged file.
    """
    if not path.exists():
        return State()
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            noted = file.metadata()
            for key in file.keys():  # noqa: SIM118 - it is no dict
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = file.get_tensor(key)
            return State(parts, int(noted["steps"]), float(noted["minutes"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RissoleError(f"{path} is no state of a training: delete it to start anew") from error


def save_weights(
    path: Path, weights: nn.Module | Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes weights atomically as safetensors.

    Raises:
        RissoleError: when they are not finite, or the file cannot be written; what was there before
            stays.
    """
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    found = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    check_finite(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(found, path, metadata)


def check_learned(modules: Iterable[nn.Module]) -> None:
    """Refuses weights that hold NaN or infinity, or would in the half precision they are kept in.

    Raises:
        RissoleError: one line for whoever started the training.
    """
    for module in modules:
        tensors = [t for t in module.state_dict().values() if t.is_floating_point()]
        if not all(t.half().isfinite().all() for t in tensors):
            raise RissoleError(DIVERGED.format(what="the weights are"))


def write_json(path: Path, data: object) -> None:
    """Writes readable JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"{json.dumps(data, indent=2)}\n".encode())
