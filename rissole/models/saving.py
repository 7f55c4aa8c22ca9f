"""One way to save and load whatever is learned: tensors with a config, in one safetensors file.

The config is JSON in the file's metadata, under one key only: with several, their order in the
file, and so its hash, would be random. What is read is taken on trust in nothing: the config must
fit its dataclass, names and shapes of the tensors must be exactly those of the network, and every
number must be finite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.storage.files import save_tensors
from rissole.storage.schema import FLOATS, Wanted, check_tensors, parse, reason

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

CLASS = "_class_name"  # key of a config that names the class, where there is a choice
WHOLE = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


def save_with_config(tensors: Mapping[str, Tensor], path: Path, config: Mapping[str, Any]) -> None:
    """Writes tensors with their config, whole or not at all; the folder is made.

    Raises:
        RissoleError: when a number is not finite, or the file cannot be written.
    """
    check_finite(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, path, metadata={"config": json.dumps(dict(config))})


def read_config_of(path: Path) -> dict[str, Any]:
    """The config of a file that `save_with_config` wrote, as it stands there.

    Raises:
        OSError, SafetensorError, ValueError: see `one_line`.
    """
    with safe_open(path, "pt") as file:
        noted = file.metadata() or {}
    return parse(noted.get("config", ""), dict[str, Any], "config")


def read_tensors(path: Path, wanted: Wanted) -> dict[str, Tensor]:
    """Tensors of a file, float32 where they are not whole numbers.

    Args:
        path: the file.
        wanted: names, dtypes and shapes: exactly these must be there, see `check_tensors`.

    Raises:
        OSError, SafetensorError, ValueError: see `one_line`.
    """
    with safe_open(path, "pt") as file:
        check_tensors(file, wanted)
        tensors = {name: file.get_tensor(name) for name in wanted}
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    check_finite(tensors)
    return tensors


def tensors_of(make: Callable[[], nn.Module]) -> Wanted:
    """What a file of a network's weights holds, found without the memory that they would take.

    Args:
        make: makes the network; its constructor must not need to know a value of a tensor.
    """
    with torch.device("meta"):
        found = make().state_dict()
    return {
        name: (FLOATS if t.is_floating_point() else (WHOLE[t.dtype],), t.shape)
        for name, t in found.items()
    }


@contextmanager
def one_line(what: str, path: Path) -> Iterator[None]:
    """Turns whatever a damaged, strange or missing file leads to into one line.

    Args:
        what: what was expected there.
        path: the file.

    Raises:
        RissoleError: in place of the errors of reading and of building.
    """
    try:
        yield
    except (
        *(OSError, ImportError, SafetensorError, AttributeError, LookupError),
        *(TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError),
    ) as error:
        raise RissoleError(f"no usable {what} in {path.parent.name}/: {reason(error)}") from error


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuses tensors with a number that is not finite; names the first."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise RissoleError(f"{name} holds numbers that are not finite")


class SavedNetwork(nn.Module):
    """A network that one safetensors file rebuilds: half-precision weights and the config.

    A subclass names its dataclass of settings in `config_class` and keeps one as `config`. A file
    is compared with a network on torch's "meta" device before one is built: a constructor makes
    layers and buffers and asks for no value of theirs.

    Attributes:
        config_class: dataclass of the settings, the only argument of the constructor.
        file_name: of the file in its folder.
        what: what it is, for messages.
    """

    config_class: ClassVar[type]
    file_name: ClassVar[str] = "model.safetensors"
    what: ClassVar[str] = "network"
    config: Any

    def save(self, folder: str | Path) -> None:
        """Writes the network into a folder."""
        self.write(Path(folder) / self.file_name)

    def write(self, path: str | Path) -> None:
        """Writes the network as a file of any name.

        Raises:
            RissoleError: when a weight is not finite in half precision, or writing fails.
        """
        half = {
            name: t.to("cpu", torch.float16 if t.is_floating_point() else t.dtype).contiguous()
            for name, t in self.state_dict().items()
        }
        save_with_config(half, Path(path), self.stored_config())

    def stored_config(self) -> dict[str, Any]:
        """What is written of the config."""
        return asdict(self.config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote, as float32 and in evaluation mode.

        Raises:
            RissoleError: when the file is missing, damaged or of another shape.
        """
        return cls.read(Path(folder) / cls.file_name)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Reads what `write` wrote; see `load`."""
        with one_line(cls.what, Path(path)):
            stored = read_config_of(Path(path))
            stored.pop(CLASS, None)
            config: Any = parse(json.dumps(stored), cls.config_class, "config")
            tensors = read_tensors(Path(path), tensors_of(lambda: cls(config)))
            network = cls(config)
            network.load_state_dict(tensors)
        return network.eval().requires_grad_(False)
