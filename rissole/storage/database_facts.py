"""What a database says of itself: written and read here and nowhere else.

`database.json` describes a database, `encoder.json` the vectors of one more encoder beside it.
Both may come from anybody: reading checks their form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DATABASE_FILE = "database.json"
ENCODER_FILE = "encoder.json"
FORMAT = 1


@dataclass(frozen=True)
class EncoderMark:
    """Which encoder made some vectors.

    Attributes:
        name: of the kind of encoder.
        id: stands for its weights, see `QueryEncoder`.
    """

    name: str
    id: str

    @classmethod
    def from_json(cls, data: Any) -> EncoderMark:
        """Inverse of `asdict`.

        Raises:
            ValueError: when it is of another form.
        """
        if not isinstance(data, Mapping) or not _texts([data.get("name"), data.get("id")]):
            raise ValueError("odd encoder")
        return cls(data["name"], data["id"])


@dataclass(frozen=True)
class IndexFacts:
    """How an index searches.

    Attributes:
        type: "exact", or what faiss calls it.
        probes: lists of an approximate index searched per query; None for an exact one.
        recall_at_8: of the true 8 nearest, the share that it finds, measured when it was built.
        queries: entries the recall was measured with.
    """

    type: str = "exact"
    probes: int | None = None
    recall_at_8: float | None = None
    queries: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What is stored: an exact index has nothing but its type."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> IndexFacts:
        """Inverse of `to_json`; databases of the first versions say nothing of their index.

        Raises:
            ValueError: when it is of another form.
        """
        data = {} if data is None else data
        if not isinstance(data, Mapping) or not all(
            _positive(data.get(name, 1)) for name in ("probes", "queries")
        ):
            raise ValueError("odd index")
        return cls(
            type=str(data.get("type", "exact")),
            probes=data.get("probes"),
            recall_at_8=data.get("recall_at_8"),
            queries=data.get("queries"),
        )


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
    """

    count: int
    label: str
    image_size: int
    encoder: EncoderMark | None = None
    index: IndexFacts = IndexFacts()
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What is stored in `database.json`."""
        data: dict[str, Any] = {"format": FORMAT, "count": self.count, "label": self.label}
        data["image_size"] = self.image_size
        if self.encoder is not None:
            data["encoder"] = asdict(self.encoder)
        data["index"] = self.index.to_json()
        return data | ({"classes": list(self.classes)} if self.classes else {})

    @classmethod
    def from_json(cls, data: Any) -> DatabaseFacts:
        """Inverse of `to_json`.

        Raises:
            ValueError: names what is odd.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"odd {DATABASE_FILE}")
        classes = data.get("classes", [])
        sound = {
            "count": _positive(data.get("count")),
            "label": isinstance(data.get("label"), str),
            "image_size": _positive(data.get("image_size")),
            "classes": isinstance(classes, list) and _texts(classes),
        }
        for name, fine in sound.items():
            if not fine:
                raise ValueError(f"odd {name}")
        return cls(
            count=data["count"],
            label=data["label"],
            image_size=data["image_size"],
            encoder=EncoderMark.from_json(data["encoder"]) if "encoder" in data else None,
            index=IndexFacts.from_json(data.get("index")),
            classes=tuple(classes),
        )

    def write(self, folder: Path) -> None:
        """Writes `database.json`."""
        _write(folder / DATABASE_FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> DatabaseFacts:
        """Reads `database.json`.

        Raises:
            OSError: when it cannot be read.
            ValueError: when it is not of the form that is written here.
        """
        return cls.from_json(json.loads((folder / DATABASE_FILE).read_text()))

    @property
    def encoder_name(self) -> str:
        """Name of the encoder of the database's own index."""
        return "latent" if self.encoder is None else self.encoder.name

    def grown(self, more: int) -> DatabaseFacts:
        """The same with more pictures."""
        return replace(self, count=self.count + more)


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
        data = json.loads((folder / ENCODER_FILE).read_text())
        mark = EncoderMark.from_json(data)
        return cls(mark, IndexFacts.from_json(data.get("index")))


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
