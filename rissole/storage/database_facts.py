"""What a database says of itself: written and read here and nowhere else.

`database.json` describes a database, `encoder.json` the vectors of one more encoder beside it.
Both may come from anybody: reading checks their form.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on

from rissole.config import RissoleError
from rissole.storage.files import write_atomic
from rissole.storage.schema import STRICT, Count, Name, Share, Width, read_json

DATABASE_FILE = "database.json"
ENCODER_FILE = "encoder.json"
FORMAT: Literal[1] = 1
EXACT = "exact"
MOST_CLASSES = 2**15  # a page is told the class of each picture in two bytes, below 0 for none
LISTS = r"IVF[1-9][0-9]{0,5},SQfp16"  # what faiss calls the one kind of approximate index

IndexType = Annotated[str, Field(pattern=rf"^({EXACT}|{LISTS})$")]
Label = Annotated[str, Field(max_length=10_000)]
Classes = Annotated[tuple[Label, ...], Field(max_length=MOST_CLASSES)]


@dataclass(frozen=True)
class EncoderMark:
    """Which encoder made some vectors.

    Attributes:
        name: of the kind of encoder.
        id: stands for its weights, see `QueryEncoder`.
    """

    __pydantic_config__ = STRICT

    name: Name
    id: Name


@dataclass(frozen=True)
class IndexFacts:
    """How an index searches.

    Attributes:
        type: "exact", or what faiss calls it.
        probes: lists of an approximate index searched per query; None for an exact one.
        recall_at_8: of the true 8 nearest, the share that it finds, measured when it was built.
        queries: entries the recall was measured with.
    """

    __pydantic_config__ = STRICT

    type: IndexType = EXACT
    probes: Count | None = None
    recall_at_8: Share | None = None
    queries: Count | None = None

    def to_json(self) -> dict[str, Any]:
        """What is stored: an exact index has nothing but its type."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class DatabaseFacts:
    """A database in numbers and words.

    Attributes:
        count: pictures.
        label: what they are, for people.
        image_size: their side in pixels.
        encoder: made the vectors of the database's own index; None for databases of the first
            versions, which knew only the latent one.
        index: of the database's own index.
        classes: names of the classes that pictures carry.
        format: of the file; the first versions did not say it.
    """

    __pydantic_config__ = STRICT

    count: Count
    label: Label
    image_size: Width
    encoder: EncoderMark | None = None
    index: IndexFacts = IndexFacts()
    classes: Classes = ()
    format: Literal[1] = FORMAT

    def to_json(self) -> dict[str, Any]:
        """What is stored in `database.json`."""
        data: dict[str, Any] = {"format": self.format, "count": self.count, "label": self.label}
        data["image_size"] = self.image_size
        if self.encoder is not None:
            data["encoder"] = asdict(self.encoder)
        data["index"] = self.index.to_json()
        return data | ({"classes": list(self.classes)} if self.classes else {})

    def write(self, folder: Path) -> None:
        """Writes `database.json`."""
        _write(folder / DATABASE_FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> DatabaseFacts:
        """Reads `database.json`.

        Raises:
            OSError: when it cannot be read.
            ValueError: names what is odd.
        """
        return read_json(folder / DATABASE_FILE, cls)

    @property
    def encoder_name(self) -> str:
        """Name of the encoder of the database's own index."""
        return "latent" if self.encoder is None else self.encoder.name

    def grown(self, more: int) -> DatabaseFacts:
        """The same with more pictures."""
        return replace(self, count=self.count + more)


class _VectorsFile(TypedDict):
    """The form of `encoder.json`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Name
    id: Name
    index: IndexFacts


@dataclass(frozen=True)
class VectorFacts:
    """The vectors of one more encoder: which one, and how their index searches."""

    encoder: EncoderMark
    index: IndexFacts

    def write(self, folder: Path) -> None:
        """Writes `encoder.json`."""
        _write(folder / ENCODER_FILE, {**asdict(self.encoder), "index": self.index.to_json()})

    @classmethod
    def read(cls, folder: Path) -> VectorFacts:
        """Reads `encoder.json`; errors as of `DatabaseFacts.read`."""
        data = read_json(folder / ENCODER_FILE, _VectorsFile)
        return cls(EncoderMark(data["name"], data["id"]), data["index"])


def check_classes(count: int) -> None:
    """Raise RissoleError where pictures have more classes than a database can have."""
    if count > MOST_CLASSES:
        raise RissoleError(f"more than {MOST_CLASSES:,} classes, a database can have no more")


def _write(path: Path, data: dict[str, Any]) -> None:
    write_atomic(path, f"{json.dumps(data, indent=1)}\n".encode())
