"""Settings of a stage from a file and options: names it knows, values of their kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rissole.config import RissoleError, quoted

Kind = TypeVar("Kind")


def read_settings(path: Path | None, kind: type[Kind], options: Mapping[str, Any]) -> Kind:
    """Settings as a file and options say.

    Args:
        path: holds one JSON object; None for no file.
        kind: dataclass of the settings.
        options: values by name that come first; None where an option was not given.

    Raises:
        RissoleError: for what is no setting, or no value for it.
    """
    raw: Any = {}
    if path is not None:
        try:
            raw = json.loads(path.read_bytes(), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise RissoleError(f"{path.name} is not JSON, or nested too deep") from error
    where = "settings" if path is None else path.name
    if not isinstance(raw, dict):
        raise RissoleError(f"{where} must hold one JSON object of settings")
    given = {name: value for name, value in options.items() if value is not None}
    return checked(raw | given, kind, where)


def checked(
    raw: Mapping[str, Any], kind: type[Kind], where: str, fixed: frozenset[str] = frozenset()
) -> Kind:
    """A dataclass of values that come from a file.

    Args:
        raw: values by name.
        kind: dataclass to make.
        where: of the values, for messages.
        fixed: fields that a file may not set.

    Raises:
        RissoleError: for what is no field, or no value for it.
    """
    known = [f.name for f in fields(kind) if f.init and f.name not in fixed]  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            listed = ", ".join(known)
            raise RissoleError(f"{where}: no setting {quoted(name)}, there are {listed}")
    if low := next((name for name, value in raw.items() if _negative(value)), None):
        raise RissoleError(f"{where}: {low} is too small: {quoted(raw[low])}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(own := first.get("ctx", {}).get("error"), RissoleError):
            raise own from error
        name = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        reason = f"{name} {reason}" if name else reason
        raise RissoleError(f"{where}: {reason}, not {quoted(first['input'])}") from error


def _refuse(constant: str) -> None:
    """NaN and the like are no JSON."""
    raise ValueError(constant)


def _negative(value: Any) -> bool:
    """Whether a number, or one in a list, is below 0: no setting is."""
    if isinstance(value, list | tuple):
        return any(_negative(one) for one in value)
    return isinstance(value, int | float) and value < 0
