"""Makes a retrieval database of any pictures: streamed, resumable, without duplicates.

Pictures are read, decoded, encoded and written a few at a time, so that memory does not grow with
their number. What is written is on disk every few seconds together with a note of how far it goes;
a build that was killed goes on from there. The finished folder takes the place of `out` by a
rename: a database in use is never half one.

With `accelerate launch` several processes encode, each its share; the first one joins them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.items import Item, LeftOut, Source, digest, nothing_in
from rissole.retrieval.encoding import (
    BATCH,
    IndexingParts,
    Picture,
    encode_pictures,
    read_picture,
)
from rissole.retrieval.workers import Worker, join, locked
from rissole.retrieval.writer import DatabaseWriter
from rissole.storage.staging import check_replaceable, publish

LISTED = "is on the list of those to leave out"


@dataclass(frozen=True)
class IndexReport:
    """What a build did.

    Attributes:
        pictures: in the database.
        duplicates: left out, exact and near.
        skipped: what lay beside the pictures or could not be read.
        resumed_at: number of pictures that an earlier, killed build had dealt with.
        seconds: wall time of this build.
        bytes: size of the folder.
    """

    pictures: int = 0
    duplicates: int = 0
    skipped: Sequence[LeftOut] = ()
    resumed_at: int = 0
    seconds: float = 0.0
    bytes: int = 0

    @property
    def listed(self) -> int:
        """How many were left out because a list names them."""
        return sum(reason == LISTED for _, reason in self.skipped)


def build_index(
    parts: IndexingParts,
    source: Source,
    out: str | Path,
    *,
    label: str | None = None,
    only: str | None = None,
    limit: int | None = None,
    keep_duplicates: bool = False,
    leave_out: Collection[str] = (),
) -> IndexReport:
    """Writes the pictures of a source as a database that fits a pipeline.

    Args:
        parts: of the pipeline, `pipe.indexing_parts()`: its own encoder finds the neighbors, and
            others whose vectors take long to make get an index of their own.
        source: where the pictures come from.
        out: folder to write; replaced when it is a database already.
        label: what the pictures are, for people.
        only: take only pictures of this class.
        limit: take only the first pictures.
        keep_duplicates: keep pictures that are there already.
        leave_out: names of files that are not taken.

    Raises:
        RissoleError: when there is nothing to read, `out` is something else, or another build is
            writing it.
    """
    start, out = time.monotonic(), Path(out).resolve()
    check_replaceable(out)
    worker = Worker.current()
    job = Job(parts, source, only, limit, keep_duplicates, frozenset(leave_out), worker)
    label = label or (f"{source.name}: {only}" if only else source.name)
    work, report = out.with_name(f".{out.name}.build"), IndexReport()
    with locked(work, worker):
        if worker.world > 1:
            folder = work / f"part-{worker.rank}"
            with DatabaseWriter(parts, folder, job.identity, keep_duplicates=True) as share:
                _encode_all(job, share)
            worker.wait()
        if worker.rank == 0:
            report = _assemble(job, work, label, out)
            shutil.rmtree(work, ignore_errors=True)
        worker.wait()
    return replace(report, seconds=time.monotonic() - start)


@dataclass(frozen=True)
class Job:
    """What is to be built, and by whom. See `build_index`."""

    parts: IndexingParts
    source: Source
    only: str | None
    limit: int | None
    keep_duplicates: bool
    leave_out: frozenset[str]
    worker: Worker

    @property
    def identity(self) -> dict[str, Any]:
        """A build goes on only with what an earlier one of the same identity wrote."""
        return {
            "source": self.source.identity,
            "bundle": self.parts.made_for,
            "encoders": [encoder.id for encoder in self.parts.encoders],
            "only": self.only,
            "limit": self.limit,
            "keep_duplicates": self.keep_duplicates,
            "leave_out": digest(sorted(self.leave_out)),
            "world": self.worker.world,
        }


def _assemble(job: Job, work: Path, label: str, out: Path) -> IndexReport:
    """Writes the whole database and publishes it."""
    whole, world = work / "whole", job.worker.world
    with DatabaseWriter(job.parts, whole, job.identity, job.keep_duplicates) as writer:
        resumed = writer.progress.read
        if world == 1:
            _encode_all(job, writer)
        else:
            join(writer, [work / f"part-{rank}" for rank in range(world)])
        if not writer.progress.count:
            reason = _why_nothing(job, writer)
            shutil.rmtree(work, ignore_errors=True)
            raise RissoleError(reason)
        folder = writer.finish(label, out.name, job.source.left_out)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        report = IndexReport(
            writer.progress.count,
            writer.progress.duplicates,
            [*job.source.left_out, *writer.skipped()],
            resumed,
            bytes=size,
        )
    try:
        publish(folder, out)
    except RissoleError as error:
        raise RissoleError(f"{error}; what was made is kept in {folder}") from error
    return report


def _encode_all(job: Job, writer: DatabaseWriter) -> None:
    """Takes a writer through what is left of a source."""
    done = writer.progress.read
    total = min(filter(None, (job.source.total, job.limit)), default=None)
    left = None if job.limit is None else max(0, job.limit - done)
    numbered = islice(enumerate(job.source.items(done), done), left)
    title = f"indexing {job.source.name}"
    # disable=None: no bar where stderr is no terminal
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, initial=done, desc=title, unit="picture", disable=None) as bar,
    ):
        while batch := list(islice(numbered, BATCH)):
            if job.worker.takes(batch[0][0] // BATCH):
                _encode_batch(job, writer, batch, pool)
            writer.progress.read = batch[-1][0] + 1
            writer.commit()
            bar.update(len(batch))
    writer.commit(now=True)


def _encode_batch(
    job: Job, writer: DatabaseWriter, batch: Sequence[tuple[int, Item]], pool: Executor
) -> None:
    size = job.parts.image_size
    for _, item in batch:
        if item.among(job.leave_out):
            writer.skip(LeftOut(item.name, LISTED))
    batch = [(n, item) for n, item in batch if not item.among(job.leave_out)]
    wanted = [(n, item) for n, item in batch if job.only is None or item.label == job.only]
    read = list(pool.map(partial(read_picture, size=size), wanted))
    for left_out in read:
        if isinstance(left_out, LeftOut):
            writer.skip(left_out)
    pictures = [picture for picture in read if isinstance(picture, Picture)]
    for row in encode_pictures(job.parts, pictures, pool):
        writer.add(row)


def _why_nothing(job: Job, writer: DatabaseWriter) -> str:
    """Why there is no picture, in one line."""
    if job.only is not None and not writer.notes():
        return f"no pictures of class {job.only!r} in {job.source.name}"
    return nothing_in(job.source.name, [*job.source.left_out, *writer.skipped()])
