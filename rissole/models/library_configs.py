"""Configs of classes of `diffusers`: what a constructor takes, of the kind of its defaults.

The library itself ignores what it does not know and takes any value: a wrong one then shows while a
picture is painted, or never. A form is made of the constructor's signature, so that it holds for
every class and release.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from rissole.storage.schema import STRICT, OddError, parse, read_json

CLASS = "_class_name"
MARKS = (CLASS, "_diffusers_version", "_name_or_path")  # written into every config, no settings
DEEP = ("num_encoder_blocks", "num_decoder_blocks", "layers_per_block")
MAX_DEPTH, MAX_WHOLE, MAX_REAL = 64, 65_536, 1e6
MAX_LEVELS = 10_000  # numbers in a list that a default of None may be replaced by

_Real = Annotated[float, Field(ge=-MAX_REAL, le=MAX_REAL)]
_Text = Annotated[str, Field(max_length=100)]
_Free = bool | int | _Real | _Text | Annotated[list[_Real], Field(max_length=MAX_LEVELS)] | None


def read_library_config(path: Path, classes: Mapping[str, type]) -> tuple[Any, dict[str, Any]]:
    """Reads what `save_config` or `save_pretrained` wrote.

    Args:
        path: the JSON file.
        classes: that may be, by the name in the config.

    Returns:
        The class and its settings.

    Raises:
        OSError: when it cannot be read.
        OddError: for another class, and for the first setting that is odd.
    """
    config = read_json(path, dict[str, Any])
    name = config.get(CLASS)
    if not isinstance(name, str) or name not in classes:
        raise OddError(f"class {name!r:.60} is none of {', '.join(classes)}")
    settings = {key: value for key, value in config.items() if key not in MARKS}
    parse(json.dumps(settings), _form(classes[name]), path.name)
    return classes[name], settings


@cache
def _form(kind: type) -> type[BaseModel]:
    """The form of the settings of a class."""
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    named = [p for p in parameters if p.default is not p.empty]
    fields: dict[str, Any] = {p.name: (_like(p.default, p.name), p.default) for p in named}
    return create_model(kind.__name__, __config__=STRICT, **fields)


def _like(default: Any, name: str) -> Any:
    """The type of values that may stand in place of a default."""
    if isinstance(default, (list, tuple)) and default:
        return Annotated[list[_like(default[0], name)], Field(min_length=1, max_length=16)]  # type: ignore[misc]
    if isinstance(default, (bool, str)):
        return bool if isinstance(default, bool) else _Text
    if isinstance(default, int):
        return Annotated[int, Field(ge=0, le=MAX_DEPTH if name in DEEP else MAX_WHOLE)]
    if isinstance(default, float):
        # -infinity is how some say "no limit"
        return _Real if math.isfinite(default) else Annotated[float, Field(allow_inf_nan=True)]
    return _Free
