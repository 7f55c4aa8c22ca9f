"""A database in the making, in a folder that survives a kill."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rissole.data.items import LeftOut
from rissole.retrieval import index as vectors
from rissole.retrieval.columns import open_columns
from rissole.retrieval.contents import INDEX, LABELS, NO_CLASS, parts_of, write_encoder
from rissole.retrieval.duplicates import Duplicates
from rissole.retrieval.encoding import IndexingParts, Row
from rissole.storage.database_facts import DatabaseFacts, EncoderMark, check_classes
from rissole.storage.files import save_tensors, write_atomic
from rissole.storage.manifest import LEFT_OUT, name_like, write_manifest

PROGRESS = "progress.json"
COMMIT_SECONDS = 2.0  # how much work a kill may cost


@dataclass
class Progress:
    """How far a build is; what comes after it in the files is not known to be whole.

    Attributes:
        read: items of the source that were dealt with.
        count: pictures so far.
        webp: bytes of thumbnails.
        notes: bytes of notes.
        skipped: items that are no pictures.
        duplicates: pictures left out because they are there already.
        classes: names, in the order of their appearance.
    """

    read: int = 0
    count: int = 0
    webp: int = 0
    notes: int = 0
    skipped: int = 0
    duplicates: int = 0
    classes: list[str] = field(default_factory=list)

    @classmethod
    def noted(cls, folder: Path, identity: dict[str, Any]) -> Progress | None:
        """What was noted in a folder; None where nothing is, or of a build of another identity."""
        try:
            state = json.loads((folder / PROGRESS).read_bytes())
            if state.pop("identity") == identity:
                return cls(**state)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def rows(self, column: str) -> int:
        """Rows that a column had when this was noted."""
        return {"webp": self.webp, "notes": self.notes}.get(column, self.count)


class DatabaseWriter:
    """Adds pictures to a database in the making; a context that closes its files.

    Args:
        parts: encoders and sizes.
        folder: to work in; goes on with what a build of the same identity left there.
        identity: what is built, as JSON values.
        keep_duplicates: add pictures that are there already.
    """

    def __init__(
        self, parts: IndexingParts, folder: Path, identity: dict[str, Any], keep_duplicates: bool
    ):
        self.parts, self.folder, self.identity = parts, folder, identity
        self.progress = self._open()
        count = self.progress.count
        self._duplicates = None if keep_duplicates else Duplicates(self.columns, count)
        self._committed = time.monotonic()

    def __enter__(self) -> DatabaseWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for column in self.columns.values():
            column.file.close()

    def add(self, row: Row) -> None:
        """Adds a picture unless it is there already."""
        if self._duplicates is not None:
            same = self._duplicates.find(row.digest, row.vectors[0], row.latent)
            if same is not None:
                self.progress.duplicates += 1
                return self._note({"duplicate": row.name, "of": same})
            self._duplicates.add(row.digest, row.vectors[0])
        for i, vector in enumerate(row.vectors):
            self.columns[f"vectors-{i}"].append(vector)
        self.columns["latents"].append(row.latent)
        self.columns["webp"].append(row.webp)
        self.columns["lengths"].append(np.array(len(row.webp)))
        self.columns["digests"].append(row.digest)
        self.columns["numbers"].append(np.array(row.number))
        self.columns["labels"].append(np.array(self._class(row.label)))
        self.progress.count += 1
        self.progress.webp += len(row.webp)
        return None

    def skip(self, left_out: LeftOut) -> None:
        """Notes that something could not be read."""
        self.progress.skipped += 1
        self._note({"skipped": left_out.name, "reason": left_out.reason})

    def notes(self) -> list[dict[str, Any]]:
        """What was skipped and left out, in order."""
        data = self.columns["notes"].path.read_bytes()[: self.progress.notes]
        return [json.loads(line) for line in data.splitlines()]

    def skipped(self) -> list[LeftOut]:
        """What could not be read, in order."""
        return [LeftOut(n["skipped"], n["reason"]) for n in self.notes() if "skipped" in n]

    def commit(self, now: bool = False) -> None:
        """Forces everything to disk and notes how far it goes, now or when it is time again."""
        if now or time.monotonic() - self._committed > COMMIT_SECONDS:
            for column in self.columns.values():
                column.flush()
            data = {"identity": self.identity, **asdict(self.progress)}
            write_atomic(self.folder / PROGRESS, json.dumps(data).encode())
            self._committed = time.monotonic()

    def finish(self, label: str, name: str, left_out: Sequence[LeftOut] = ()) -> Path:
        """Writes index, headers and manifest; returns the folder to publish.

        Args:
            label: what the pictures are, for people.
            name: of the database.
            left_out: what lay beside the pictures.
        """
        self.commit(now=True)
        final, count = self.folder / "database", self.progress.count
        latents, shape = self.columns["latents"], [count, *self.parts.latent_shape]
        latents.describe({"latents": ("F16", shape, 0)})
        self._finish_thumbnails()
        own, *further = self.parts.encoders
        chunks = parts_of(self.columns["vectors-0"].rows(count))
        index = vectors.build(final / INDEX, chunks, count, own.dim)
        for i, encoder in enumerate(further, 1):
            made = self.columns[f"vectors-{i}"].rows(count)
            write_encoder(final / "encoders" / encoder.name, encoder, made)
        made_with, size = EncoderMark(own.name, own.id), self.parts.image_size
        classes = tuple(self._finish_classes(final / LABELS))
        DatabaseFacts(count, label, size, made_with, index, classes).write(final)
        beside = [{"skipped": found, "reason": reason} for found, reason in left_out]
        notes = json.dumps([*beside, *self.notes()], indent=1)
        write_atomic(final / LEFT_OUT, f"{notes}\n".encode())
        write_manifest(final, name_like(name), encoder=self.parts.made_for)
        return final

    def _finish_thumbnails(self) -> None:
        """Puts the offsets behind the WebP files, at a multiple of 8 as numbers like to lie."""
        column, count, length = self.columns["webp"], self.progress.count, self.progress.webp
        column.cut(length)
        start = -(-length // 8) * 8
        column.append(bytes(start - length))
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(self.columns["lengths"].rows(count), out=offsets[1:])
        column.append(offsets.tobytes())
        column.describe({"data": ("U8", [start], 0), "offsets": ("I64", [count + 1], start)})

    def _finish_classes(self, path: Path) -> list[str]:
        """Writes the classes, in the order of their names and no longer of their appearance."""
        found = self.progress.classes
        names = sorted(found)
        if found:
            places = np.array([*(names.index(name) for name in found), NO_CLASS], np.int32)
            numbers = self.columns["labels"].rows(self.progress.count)
            # the last place is that of no class
            save_tensors({"labels": torch.from_numpy(places[numbers])}, path)
        return names

    def _class(self, label: str | None) -> int:
        if label is None:
            return NO_CLASS
        if label not in self.progress.classes:
            check_classes(len(self.progress.classes) + 1)
            self.progress.classes.append(label)
        return self.progress.classes.index(label)

    def _note(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        self.columns["notes"].append(line)
        self.progress.notes += len(line)

    def _open(self) -> Progress:
        """Opens the columns, cut back to the last note, or empty where there is none that fits."""
        progress = Progress.noted(self.folder, self.identity)
        if progress is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.columns = open_columns(self.folder, self.parts.latent_shape, self.parts.encoders)
        columns = self.columns.items()
        if progress and all(column.cut(progress.rows(name)) for name, column in columns):
            return progress
        for column in self.columns.values():
            column.cut(0)
        return Progress()
