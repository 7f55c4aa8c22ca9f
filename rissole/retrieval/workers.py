"""Several processes that build one database, as `accelerate launch` starts them.

Each encodes its share into a folder of its own; the first one joins them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.items import LeftOut
from rissole.retrieval.columns import HEADER, open_columns
from rissole.retrieval.encoding import Row
from rissole.retrieval.writer import DatabaseWriter, Progress


@dataclass(frozen=True)
class Worker:
    """This process among those of one build.

    Attributes:
        rank: its number.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Worker:
        """As `accelerate launch` says; alone without it."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import PartialState

        state = PartialState()
        return cls(state.process_index, state.num_processes)

    def takes(self, batch: int) -> bool:
        """Whether a batch of the source is this one's: every `world`-th from `rank` on."""
        return batch % self.world == self.rank

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


@contextlib.contextmanager
def locked(work: Path, worker: Worker) -> Iterator[None]:
    """Only one build at a time writes a folder; the lock of a killed one is free again.

    Raises:
        RissoleError: when another build has it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(work / f"lock-{worker.rank}", timeout=0)
    try:
        work.mkdir(parents=True, exist_ok=True)
        # what older versions raise on a disk that knows no locks: there nothing tells of another
        with contextlib.suppress(NotImplementedError):
            lock.acquire()
        yield
    except Timeout as error:
        name = work.name.removeprefix(".").removesuffix(".build")
        raise RissoleError(f"another build is writing {name} just now") from error
    except OSError as error:
        raise RissoleError(f"cannot write {work.parent}: {error.strerror or error}") from error
    finally:
        lock.release()


class Share:
    """What one process encoded, read back."""

    def __init__(self, folder: Path, writer: DatabaseWriter):
        noted = Progress.noted(folder, writer.identity)
        if noted is None:
            raise RissoleError(f"{folder.name} of the build is missing: start it again")
        self.progress, self._folder = noted, folder
        parts = writer.parts
        self._columns = open_columns(folder, parts.latent_shape, parts.encoders)
        self._vectors = [self._columns[f"vectors-{i}"] for i in range(len(parts.encoders))]
        self._ends = np.cumsum(self._columns["lengths"].rows(noted.count))

    def numbers(self) -> list[int]:
        """Places of its pictures in the source."""
        return self._columns["numbers"].rows(self.progress.count).tolist()

    def row(self, place: int) -> Row:
        """One of its pictures."""
        own, end = self._columns, HEADER + int(self._ends[place])
        size, kind = int(own["lengths"].one(place)), int(own["labels"].one(place))
        number = int(own["numbers"].one(place))
        return Row(
            number=number,
            name=f"row {number}",
            label=self.progress.classes[kind] if kind >= 0 else None,
            latent=own["latents"].one(place),
            vectors=[column.one(place) for column in self._vectors],
            webp=own["webp"].part(end - size, size),
            digest=own["digests"].one(place).tobytes(),
        )

    def skipped(self) -> list[LeftOut]:
        """What it could not read; duplicates are found when the shares are joined."""
        lines = self._columns["notes"].path.read_bytes()[: self.progress.notes].splitlines()
        notes = [json.loads(line) for line in lines]
        return [LeftOut(note["skipped"], note["reason"]) for note in notes]


def join(writer: DatabaseWriter, folders: Sequence[Path]) -> None:
    """Feeds what several processes wrote to one writer, in the order of the source."""
    shares = [Share(folder, writer) for folder in folders]
    order = sorted(
        (number, s, place)
        for s, share in enumerate(shares)
        for place, number in enumerate(share.numbers())
    )
    for _, s, place in tqdm(order, desc="joining", unit="picture", disable=None):
        writer.add(shares[s].row(place))
    for share in shares:
        for left_out in share.skipped():
            writer.skip(left_out)
    writer.progress.read = max(share.progress.read for share in shares)
