"""How much may be asked of the server, by one visitor and by all of them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, fields

from rissole.config import RissoleError, quoted, whole_number


def _limit(default: int, most: int, told: str) -> int:
    return field(default=default, metadata={"most": most, "told": told})


@dataclass(frozen=True)
class Limits:
    """What an owner may set; each is an option of the app, and `RISSOLE_<NAME>`."""

    work: int = _limit(
        3000,
        10**9,
        "network evaluations, weighted by size, that one picture, film or comparison may take",
    )
    seconds: int = _limit(300, 86_400, "seconds that the server computes for one of them")
    at_once: int = _limit(1, 64, "how many of them are computed at the same time")
    queue: int = _limit(64, 10_000, "how many wait for their turn; those beyond hear: busy")
    each: int = _limit(16, 10_000, "requests of programs at one address that wait")
    visits: int = _limit(256, 10**6, "visits of one address at the same time")
    share: int = _limit(
        75, 100, "percent of the line, and of the room for files and photos, for one address"
    )

    def __post_init__(self) -> None:
        for limit in fields(self):
            whole_number(getattr(self, limit.name), limit.name, 1, limit.metadata["most"])

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Adds one option for each limit; what is left out comes from the environment."""
        for limit in fields(cls):
            variable = f"RISSOLE_{limit.name.upper()}"
            parser.add_argument(
                f"--{limit.name.replace('_', '-')}",
                default=os.environ.get(variable) or limit.default,
                help=f"{limit.metadata['told']} [${variable}, else {limit.default}]",
            )

    @classmethod
    def given(cls, options: argparse.Namespace) -> Limits:
        """The limits among parsed options.

        Raises:
            RissoleError: for one that is no whole number in its range.
        """
        values = {limit.name: str(getattr(options, limit.name)) for limit in fields(cls)}
        for name, value in values.items():
            if not value.isdecimal() or len(value) > 18:
                raise RissoleError(f"{name} must be a whole number, not {quoted(value)}")
        return cls(**{name: int(value) for name, value in values.items()})
