"""Makes a retrieval database of any pictures: streamed, resumable, without duplicates.

Pictures are read, decoded, encoded and written a few at a time, so that memory does not grow with
their number. What is written is on disk every few seconds together with a note of how far it goes;
a build that was killed goes on from there. The finished folder takes the place of `out` by a
rename: a database in use is never half one.

With `accelerate launch` several processes encode, each its share; the first one joins them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.images import load_image, square, to_tensor
from rissole.data.sources import Item, Source
from rissole.pipeline import RissolePipeline
from rissole.retrieval import index as vectors
from rissole.retrieval.database import NO_CLASS, to_webp, write_encoder
from rissole.retrieval.encoders import QueryEncoder
from rissole.storage.files import save_tensors, write_atomic
from rissole.storage.manifest import LEFT_OUT, latent_fingerprint, read_manifest, write_manifest
from rissole.storage.staging import check_replaceable, publish

BATCH = 16  # pictures dealt with together
COMMIT_SECONDS = 2.0  # how much work a kill may cost
# Another picture counts as the same one above both. Of AFHQ's cats all 57 pairs found so are the
# same photo; cosine alone also joins small things on one plain background (CIFAR-10: 6 of 18).
NEAR = 0.98  # cosine of the embeddings
ALIKE = 0.87  # correlation of the latents at half their resolution
CANDIDATES = 4  # nearest by their signs, whose cosine is then compared
HEADER = 1024  # bytes kept free in front of a tensor for what is known at the end


@dataclass(frozen=True)
class IndexReport:
    """What a build did.

    Attributes:
        pictures: in the database.
        duplicates: left out, exact and near.
        skipped: `(name, reason)` of what could not be read.
        resumed_at: number of pictures that an earlier, killed build had dealt with.
        seconds: wall time of this build.
        bytes: size of the folder.
    """

    pictures: int
    duplicates: int
    skipped: list[tuple[str, str]]
    resumed_at: int
    seconds: float
    bytes: int


def build_index(
    pipe: RissolePipeline,
    source: Source,
    out: str | Path,
    *,
    label: str | None = None,
    only: str | None = None,
    limit: int | None = None,
    keep_duplicates: bool = False,
) -> IndexReport:
    """Writes the pictures of a source as a database that fits the pipeline's autoencoder.

    The pipeline's own encoder finds the neighbors; a CLIP model, if it has one, gets an index of
    its own.

    Args:
        out: folder to write; replaced when it is a database already.
        label: what the pictures are, for people.
        only: take only pictures of this class.
        limit: take only the first pictures.
        keep_duplicates: keep pictures that are there already.

    Raises:
        RissoleError: when there is nothing to read, `out` is something else, or another build is
            writing it.
    """
    start, out = time.monotonic(), Path(out).resolve()
    check_replaceable(out)
    rank, world = _processes()
    job = _Job(pipe, source, only, limit, keep_duplicates, rank, world)
    label = label or (f"{source.name}: {only}" if only else source.name)
    work = out.with_name(f".{out.name}.build")
    with _locked(work, rank):
        if world > 1:
            with _Writer(pipe, work / f"part-{rank}", job.identity, keep_duplicates=True) as part:
                _encode_all(job, part)
            _wait()
        report = IndexReport(0, 0, [], 0, 0.0, 0)
        if rank == 0:
            report = _assemble(job, work, label, out)
            shutil.rmtree(work, ignore_errors=True)
        if world > 1:
            _wait()
    return replace(report, seconds=time.monotonic() - start)


@dataclass(frozen=True)
class _Job:
    """What is to be built, and this process's share: every `world`-th batch from `rank` on."""

    pipe: RissolePipeline
    source: Source
    only: str | None
    limit: int | None
    keep_duplicates: bool
    rank: int
    world: int

    @property
    def identity(self) -> dict[str, Any]:
        """A build goes on only with what an earlier one of the same identity wrote."""
        return {
            "source": self.source.identity,
            "bundle": latent_fingerprint(read_manifest(self.pipe.folder)),
            "encoders": [encoder.id for encoder in _encoders(self.pipe)],
            "only": self.only,
            "limit": self.limit,
            "keep_duplicates": self.keep_duplicates,
            "world": self.world,
        }


def _assemble(job: _Job, work: Path, label: str, out: Path) -> IndexReport:
    """Writes the whole database and publishes it."""
    with _Writer(job.pipe, work / "whole", job.identity, job.keep_duplicates) as writer:
        resumed = writer.read
        if job.world == 1:
            _encode_all(job, writer)
        else:
            _join(writer, [work / f"part-{rank}" for rank in range(job.world)])
        if not writer.count:
            reason = _nothing(job, writer)
            shutil.rmtree(work, ignore_errors=True)
            raise RissoleError(reason)
        folder = writer.finish(label, out.name)
        report = _report(writer, folder, resumed)
    publish(folder, out)
    return report


# --- reading and encoding -----------------------------------------------------------------------


class _Picture(NamedTuple):
    """A picture on its way into the database, or the reason why it cannot be."""

    number: int
    name: str
    label: str | None
    image: Image.Image | None
    fault: str = ""


class _Row(NamedTuple):
    """What the database keeps of one picture."""

    number: int
    name: str
    label: str | None
    latent: np.ndarray
    vectors: list[np.ndarray]
    webp: bytes
    digest: bytes


def _encode_all(job: _Job, writer: _Writer) -> None:
    """Takes a writer through what is left of a source."""
    total = min(filter(None, (job.source.total, job.limit)), default=None)
    left = None if job.limit is None else max(0, job.limit - writer.read)
    numbered = islice(enumerate(job.source.items(writer.read), writer.read), left)
    title = f"indexing {job.source.name}"
    # disable=None: no bar where stderr is no terminal
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, initial=writer.read, desc=title, unit="picture", disable=None) as bar,
    ):
        while batch := list(islice(numbered, BATCH)):
            if (batch[0][0] // BATCH) % job.world == job.rank:
                _encode_batch(job, writer, batch, pool)
            writer.read = batch[-1][0] + 1
            writer.commit()
            bar.update(len(batch))
    writer.commit(now=True)


def _encode_batch(
    job: _Job, writer: _Writer, batch: Sequence[tuple[int, Item]], pool: ThreadPoolExecutor
) -> None:
    wanted = [(n, item) for n, item in batch if job.only is None or item.label == job.only]
    pictures = list(pool.map(lambda pair: _decode(*pair, job.pipe.image_size), wanted))
    for picture in pictures:
        if picture.image is None:
            writer.skip(picture.name, picture.fault)
    readable = [picture for picture in pictures if picture.image is not None]
    for row in _rows(job.pipe, writer.encoders, readable, pool):
        writer.add(row)


def _decode(number: int, item: Item, size: int) -> _Picture:
    if item.data is None:
        return _Picture(number, item.name, item.label, None, "holds no picture")
    try:
        image = square(load_image(item.data), size)
    except RissoleError as error:
        return _Picture(number, item.name, item.label, None, str(error))
    return _Picture(number, item.name, item.label, image)


def _rows(
    pipe: RissolePipeline,
    encoders: Sequence[QueryEncoder],
    pictures: Sequence[_Picture],
    pool: ThreadPoolExecutor,
) -> Iterator[_Row]:
    """Latents, vectors and thumbnails of pictures."""
    if not pictures:
        return
    images = [picture.image for picture in pictures]
    webp = pool.map(to_webp, images)
    pixels = to_tensor(images).to(pipe.device)
    latents = _latents(pipe, pixels)
    with torch.inference_mode():
        made = [encoder(pixels, latents).cpu().numpy() for encoder in encoders]
    stored = latents.cpu().half().numpy()
    for i, (picture, data) in enumerate(zip(pictures, webp, strict=True)):
        digest = hashlib.sha256(picture.image.tobytes()).digest()[:16]
        yield _Row(
            picture.number, picture.name, picture.label, stored[i], [v[i] for v in made], data,
            digest,
        )  # fmt: skip


def _latents(pipe: RissolePipeline, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures, in the precision the pipeline computes in.

    bfloat16 takes half the time and changes a latent by 0.005 of its spread.
    """
    device, dtype = pipe.device.type, next(pipe.denoiser.parameters()).dtype
    part = 4 if device == "cpu" else BATCH  # more would outgrow a CPU's caches
    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        return torch.cat([pipe.codec.encode(few).float() for few in pixels.split(part)])


def _encoders(pipe: RissolePipeline) -> list[QueryEncoder]:
    """The pipeline's own encoder first, then those whose vectors take long to make."""
    further = (
        pipe.retriever.encoders[name]
        for name in ("learned", "clip")
        if name in pipe.retriever.encoders
    )
    return [
        pipe.retriever.encoder,
        *(encoder for encoder in further if encoder is not pipe.retriever.encoder),
    ]


# --- writing ------------------------------------------------------------------------------------


class _Column:
    """A file of rows of one kind, appended to and cut back to what was noted."""

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...] = (), header: int = 0):
        self.path, self.dtype, self.row, self.header = path, np.dtype(dtype), row, header
        self.row_bytes = self.dtype.itemsize * int(np.prod(row, dtype=np.int64))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.file = path.open("r+b", buffering=0)

    def cut(self, rows: int) -> bool:
        """Forgets what comes after some rows; tells whether all of them are there."""
        length = self.header + rows * self.row_bytes
        whole = rows == 0 or self.path.stat().st_size >= length
        self.file.truncate(length)
        self.file.seek(length)
        return whole

    def append(self, values: np.ndarray | bytes) -> None:
        """Adds rows; a full disk is an OSError."""
        data = values if isinstance(values, bytes) else np.asarray(values, self.dtype).tobytes()
        if self.file.write(data) != len(data):
            raise OSError(28, "No space left on device", str(self.path))

    def rows(self, count: int) -> np.ndarray:
        """All rows, memory-mapped."""
        if not count:
            return np.empty((0, *self.row), self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.header, (count, *self.row))

    def one(self, number: int) -> np.ndarray:
        """A single row."""
        data = self.part(self.header + number * self.row_bytes, self.row_bytes)
        return np.frombuffer(data, self.dtype).reshape(self.row)

    def part(self, start: int, length: int) -> bytes:
        """Bytes from anywhere in the file."""
        self.file.seek(start)
        data = self.file.read(length)
        self.file.seek(0, os.SEEK_END)
        return data

    def begin_with(self, data: bytes) -> None:
        """Overwrites the first bytes of the file."""
        self.file.seek(0)
        self.file.write(data)
        self.file.seek(0, os.SEEK_END)

    def flush(self) -> None:
        """Forces the file to disk."""
        os.fsync(self.file.fileno())


class _Writer:
    """A database in the making, in a folder that survives a kill.

    `database/` is what will be published; `columns/` is what is needed on the way.
    """

    def __init__(
        self, pipe: RissolePipeline, folder: Path, identity: dict[str, Any], keep_duplicates: bool
    ):
        self.encoders, self.identity = _encoders(pipe), identity
        self.folder, self.keep_duplicates = folder, keep_duplicates
        self.image_size, self.latent_shape = pipe.image_size, pipe.database.latent_shape
        self._state = self._open()
        self._committed = time.monotonic()
        self._seen = {bytes(d) for d in self.columns["digests"].rows(self.count).reshape(-1, 16)}
        self._near = faiss.IndexBinaryFlat(8 * -(-self.encoders[0].dim // 8))
        for start in range(0, self.count, vectors.CHUNK):
            part = self.columns["vectors-0"].rows(self.count)[start : start + vectors.CHUNK]
            self._near.add(_signs(part))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for column in self.columns.values():
            column.file.close()

    @property
    def count(self) -> int:
        """Pictures so far."""
        return self._state["count"]

    @property
    def read(self) -> int:
        """Items of the source that were dealt with."""
        return self._state["read"]

    @read.setter
    def read(self, number: int) -> None:
        self._state["read"] = number

    @property
    def duplicates(self) -> int:
        """Pictures left out because they are there already."""
        return self._state["duplicates"]

    def add(self, row: _Row) -> None:
        """Adds a picture unless it is there already."""
        if not self.keep_duplicates:
            same = self._same(row)
            if same is not None:
                self._state["duplicates"] += 1
                return self._note({"duplicate": row.name, "of": same})
        self._seen.add(row.digest)
        self._near.add(_signs(row.vectors[0][None]))
        for i, vector in enumerate(row.vectors):
            self.columns[f"vectors-{i}"].append(vector)
        self.columns["latents"].append(row.latent)
        self.columns["webp"].append(row.webp)
        self.columns["lengths"].append(np.array(len(row.webp)))
        self.columns["digests"].append(row.digest)
        self.columns["numbers"].append(np.array(row.number))
        self.columns["labels"].append(np.array(self._class(row.label)))
        self._state["count"] += 1
        self._state["webp"] += len(row.webp)
        return None

    def skip(self, name: str, reason: str) -> None:
        """Notes that something could not be read."""
        self._state["skipped"] += 1
        self._note({"skipped": name, "reason": reason})

    def notes(self) -> list[dict[str, Any]]:
        """What was skipped and left out, in order."""
        data = self.columns["notes"].path.read_bytes()[: self._state["notes"]]
        return [json.loads(line) for line in data.splitlines()]

    def commit(self, now: bool = False) -> None:
        """Forces everything to disk and notes how far it goes, now or when it is time again."""
        if now or time.monotonic() - self._committed > COMMIT_SECONDS:
            for column in self.columns.values():
                column.flush()
            data = {"identity": self.identity, **self._state}
            write_atomic(self.folder / "progress.json", json.dumps(data).encode())
            self._committed = time.monotonic()

    def finish(self, label: str, name: str) -> Path:
        """Writes index, headers and manifest; returns the folder to publish."""
        self.commit(now=True)
        final, count = self.folder / "database", self.count
        self._finish_latents(count)
        self._finish_thumbnails(count)
        index = vectors.build(final / "index.faiss", self._chunks(0), count, self.encoders[0].dim)
        for i, encoder in enumerate(self.encoders[1:], 1):
            made = self.columns[f"vectors-{i}"].rows(count)
            write_encoder(final / "encoders" / encoder.name, encoder, made)
        own = self.encoders[0]
        info = {"format": 1, "count": count, "label": label, "image_size": self.image_size,
                "encoder": {"name": own.name, "id": own.id}, "index": index}  # fmt: skip
        if self._state["classes"]:
            info["classes"] = self._finish_labels(final / "labels.safetensors", count)
        (final / "database.json").write_text(json.dumps(info, indent=1) + "\n")
        (final / LEFT_OUT).write_text(json.dumps(self.notes(), indent=1) + "\n")
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-_") or "database"
        write_manifest(final, name, encoder=self.identity["bundle"])
        return final

    def _chunks(self, encoder: int) -> vectors.Chunks:
        rows = self.columns[f"vectors-{encoder}"].rows(self.count)

        def chunks() -> Iterator[np.ndarray]:
            for start in range(0, len(rows), vectors.CHUNK):
                yield rows[start : start + vectors.CHUNK]

        return chunks

    def _finish_labels(self, path: Path, count: int) -> list[str]:
        """Writes the classes, in the order of their names and no longer of their appearance."""
        found = self._state["classes"]
        names = sorted(found)
        places = np.array([*(names.index(name) for name in found), NO_CLASS], np.int32)
        numbers = places[self.columns["labels"].rows(count)]  # the last place is that of no class
        save_tensors({"labels": torch.from_numpy(numbers)}, path)
        return names

    def _finish_latents(self, count: int) -> None:
        column = self.columns["latents"]
        shape = [count, *self.latent_shape]
        entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, count * column.row_bytes]}
        _write_header(column, {"latents": entry})

    def _finish_thumbnails(self, count: int) -> None:
        """Puts the offsets behind the WebP files, at a multiple of 8 as numbers like to lie."""
        column, length = self.columns["webp"], self._state["webp"]
        column.cut(length)
        start = -(-length // 8) * 8
        column.append(bytes(start - length))
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(self.columns["lengths"].rows(count), out=offsets[1:])
        column.append(offsets.tobytes())
        end = start + offsets.nbytes
        _write_header(column, {
            "data": {"dtype": "U8", "shape": [start], "data_offsets": [0, start]},
            "offsets": {"dtype": "I64", "shape": [count + 1], "data_offsets": [start, end]},
        })  # fmt: skip

    def _same(self, row: _Row) -> int | None | str:
        """The number of a picture in the database that is the same, "exact" for a twin."""
        if row.digest in self._seen:
            return "exact"
        if not self.count:
            return None
        nearest = self._near.search(_signs(row.vectors[0][None]), min(CANDIDATES, self.count))[1]
        for other in nearest[0].tolist():
            cosine = float(self.columns["vectors-0"].one(other).astype(np.float32) @ row.vectors[0])
            if cosine > NEAR and _alike(self.columns["latents"].one(other), row.latent) > ALIKE:
                return other
        return None

    def _class(self, label: str | None) -> int:
        if label is None:
            return NO_CLASS
        if label not in self._state["classes"]:
            self._state["classes"].append(label)
        return self._state["classes"].index(label)

    def _note(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        self.columns["notes"].append(line)
        self._state["notes"] += len(line)

    def _open(self) -> dict[str, Any]:
        """Opens the columns, cut back to the last note, or empty where there is none that fits."""
        state = self._noted()
        self.columns = _columns(self.folder, self.latent_shape, self.encoders)
        if state and all(c.cut(_length(n, state)) for n, c in self.columns.items()):
            return state
        for column in self.columns.values():
            column.cut(0)
        return {"read": 0, "count": 0, "webp": 0, "notes": 0, "skipped": 0, "duplicates": 0,
                "classes": []}  # fmt: skip

    def _noted(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self.folder / "progress.json").read_bytes())
            if state.pop("identity") == self.identity:
                return state
        except (OSError, ValueError, KeyError):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)
        return None


def _columns(
    folder: Path, latent_shape: tuple[int, ...], encoders: Sequence[QueryEncoder]
) -> dict[str, _Column]:
    """The files of a database in the making."""
    final, helper = folder / "database", folder / "columns"
    columns = {
        "latents": _Column(final / "latents.safetensors", "f2", latent_shape, HEADER),
        "webp": _Column(final / "thumbnails.safetensors", "u1", (), HEADER),
        "lengths": _Column(helper / "lengths", "i4"),
        "digests": _Column(helper / "digests", "u1", (16,)),
        "numbers": _Column(helper / "numbers", "i8"),
        "labels": _Column(helper / "labels", "i4"),
        "notes": _Column(helper / "notes", "u1"),
    }
    for i, encoder in enumerate(encoders):
        columns[f"vectors-{i}"] = _Column(helper / f"vectors-{i}", "f2", (encoder.dim,))
    return columns


def _length(name: str, state: dict[str, Any]) -> int:
    """Rows that a column had when the state was noted."""
    return state[name] if name in ("webp", "notes") else state["count"]


def _write_header(column: _Column, entries: dict[str, Any]) -> None:
    """Describes a file's tensors in the space kept free for that, as the safetensors format has it.

    8 bytes of length, then JSON, which may end in spaces.
    """
    text = json.dumps(entries).encode()
    column.begin_with((HEADER - 8).to_bytes(8, "little") + text.ljust(HEADER - 8))


def _signs(part: np.ndarray) -> np.ndarray:
    """The signs of vectors (N, dim) as bits: near vectors have most of them in common."""
    return np.packbits(np.asarray(part) > 0, axis=1)


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two latents (C, S, S) at half their resolution, channel means aside."""
    c, size, _ = a.shape
    halves = np.stack([a, b]).astype(np.float32).reshape(2, c, size // 2, 2, size // 2, 2)
    small = halves.mean((3, 5)).reshape(2, c, -1)
    x, y = (small - small.mean(-1, keepdims=True)).reshape(2, -1)
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-9))


# --- several processes --------------------------------------------------------------------------


def _processes() -> tuple[int, int]:
    """This process's number among those of `accelerate launch`, and how many there are."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1
    from accelerate import PartialState

    state = PartialState()
    return state.process_index, state.num_processes


def _wait() -> None:
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def _join(writer: _Writer, parts: Sequence[Path]) -> None:
    """Feeds what several processes wrote to one writer, in the order of the source."""
    states = [json.loads((part / "progress.json").read_bytes()) for part in parts]
    columns = [_columns(part, writer.latent_shape, writer.encoders) for part in parts]
    order = [
        (number, p, row)
        for p, (own, state) in enumerate(zip(columns, states, strict=True))
        for row, number in enumerate(own["numbers"].rows(state["count"]).tolist())
    ]
    ends = [np.cumsum(c["lengths"].rows(s["count"])) for c, s in zip(columns, states, strict=True)]
    for number, p, row in tqdm(sorted(order), desc="joining", unit="picture", disable=None):
        own, end = columns[p], int(ends[p][row])
        size = int(own["lengths"].one(row))
        webp = own["webp"].part(HEADER + end - size, size)
        kind = int(own["labels"].one(row))
        writer.add(
            _Row(
                number,
                f"row {number}",
                states[p]["classes"][kind] if kind >= 0 else None,
                own["latents"].one(row),
                [own[f"vectors-{i}"].one(row) for i in range(len(writer.encoders))],
                webp,
                own["digests"].one(row).tobytes(),
            )  # fmt: skip
        )
    for part in parts:
        for line in (part / "columns" / "notes").read_bytes().splitlines():
            note = json.loads(line)
            writer.skip(note["skipped"], note["reason"])
    writer.read = max(state["read"] for state in states)


# --- around it ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(work: Path, rank: int) -> Iterator[None]:
    """Only one build at a time writes a folder; the lock of a killed one is free again."""
    from filelock import FileLock, Timeout

    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / f"lock-{rank}", timeout=0):
            yield
    except Timeout as error:
        name = work.name.removeprefix(".").removesuffix(".build")
        raise RissoleError(f"another build is writing {name} just now") from error
    except OSError as error:
        raise RissoleError(f"cannot write {work.parent}: {error.strerror or error}") from error


def _nothing(job: _Job, writer: _Writer) -> str:
    """Why there is no picture, in one line."""
    notes = writer.notes()
    if job.only is not None and not notes:
        return f"no pictures of class {job.only!r} in {job.source.name}"
    reasons = [note["reason"] for note in notes if "skipped" in note]
    return f"no pictures found in {job.source.name}" + (f": {reasons[0]}" if reasons else "")


def _report(writer: _Writer, folder: Path, resumed: int) -> IndexReport:
    files = (path for path in folder.rglob("*") if path.is_file())
    skipped = [(n["skipped"], n["reason"]) for n in writer.notes() if "skipped" in n]
    size = sum(path.stat().st_size for path in files)
    return IndexReport(writer.count, writer.duplicates, skipped, resumed, 0.0, size)
