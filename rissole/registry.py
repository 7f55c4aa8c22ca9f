"""Registries: what can be added from outside the package, each kind found in one place.

A package that is installed beside this one names modules in the entry-point group
`rissole.extensions`; they are imported when somebody first asks what there is, and register what
they bring; so are modules that `$RISSOLE_PLUGINS` or `--plugin` names. Code that is imported anyway
just registers.
"""

from __future__ import annotations

import functools
import importlib
import os
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import Generic, TypeVar

from rissole.config import RissoleError, quoted

GROUP = "rissole.extensions"
PLUGINS = "RISSOLE_PLUGINS"  # variable of the environment: modules that are no packages


Entry = TypeVar("Entry")  # a class or an object with a `name`


class Registry(Generic[Entry]):
    """Entries by name, in the order in which they were registered.

    Example:
        >>> ENCODERS: Registry[type[QueryEncoder]] = Registry("encoder")
        >>> @ENCODERS.register
        ... class ColorEncoder(QueryEncoder):
        ...     name = "color"
    """

    def __init__(self, what: str):
        """Starts empty.

        Args:
            what: what an entry is, for messages.
        """
        self.what = what
        self._entries: dict[str, Entry] = {}

    def register(self, entry: Entry) -> Entry:
        """Adds an entry under its `name`; also a decorator. The same name again replaces it."""
        self._entries[entry.name] = entry  # type: ignore[attr-defined]
        return entry

    def names(self) -> list[str]:
        """All names, those of extensions last."""
        load_extensions()
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        load_extensions()
        return iter(list(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names()

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            RissoleError: when there is none; the line names those that there are.
        """
        if name not in self:
            known = ", ".join(self.names())
            raise RissoleError(f"{self.what} must be one of {known}, not {quoted(name)}")
        return self._entries[name]


@functools.cache
def load_extensions() -> None:
    """Imports the modules that installed packages name, once.

    Raises:
        RissoleError: names the one that cannot be imported.
    """
    for extension in entry_points(group=GROUP):
        try:
            extension.load()
        except Exception as error:  # it is somebody else's code
            raise _does_not_load(f"extension {extension.name}", error) from error
    for name in os.environ.get(PLUGINS, "").split():
        load_plugin(name)


def load_plugin(name: str) -> None:
    """Imports a module that registers what it brings.

    Raises:
        RissoleError: when there is none of this name, or it cannot be imported.
    """
    try:
        importlib.import_module(name)
    except Exception as error:  # it is somebody else's code
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):  # itself, or a package it lies in
            raise RissoleError(f"no module {quoted(name)} here, and none is installed") from error
        raise _does_not_load(f"module {quoted(name)}", error) from error


def _does_not_load(what: str, error: Exception) -> RissoleError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if not isinstance(error, SyntaxError):  # which says where it is
        *_, last = traceback.extract_tb(error.__traceback__)
        reason = f"{reason} ({PurePath(last.filename).name}, line {last.lineno})"
    return RissoleError(f"the {what} does not load: {reason}")
