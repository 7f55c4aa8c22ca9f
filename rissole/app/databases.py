"""Where the pictures come from: databases that everybody may choose, and visitors' own photos."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rissole.app.extended import Extended
from rissole.app.household import Household
from rissole.app.patches import asking
from rissole.app.worlds import World
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline
from rissole.retrieval.database import DATA, IN_BUNDLE, Database, list_databases
from rissole.storage.database_facts import DATABASE_FILE, DatabaseFacts
from rissole.storage.manifest import fingerprint, latent_fingerprint, read_manifest

QUICK = 10_000  # pictures of a larger database are not encoded anew while a visitor waits
OWN_BYTES = 16_384  # of a visitor's own database beside its pictures: a third of it was measured


@dataclass(frozen=True)
class Entry:
    """A database that anybody may choose.

    Attributes:
        key: its fingerprint, also part of the address of its thumbnails.
        label: what its pictures are, for people.
        count: how many there are.
        path: its folder; None for the one that the server was started with.
    """

    key: str
    label: str
    count: int
    path: Path | None = None


class Sources:
    """All databases of one bundle.

    Those of visitors live in memory under names nobody can guess, until their page is closed.

    Args:
        model: the model with the database that visitors meet first.
        folders: folders that are databases or hold some.
        household: where all that visitors leave is kept; a new one if left out.

    Attributes:
        world: the model, which may be unloaded while nobody uses it.
        household: as given.
    """

    def __init__(
        self,
        model: RissolePipeline | World,
        folders: Iterable[str | Path] = (),
        household: Household | None = None,
    ):
        self.world = model if isinstance(model, World) else World(lambda: model)
        self.key, self._folders = self.world.key, tuple(map(Path, folders))
        self.household = household or Household()
        self._databases: dict[str, Database] = {}  # of others that were opened
        self._lock = threading.Lock()

    @property
    def start(self) -> RissolePipeline:
        """The model with the first database."""
        return self.world.pipe

    def entries(self) -> list[Entry]:
        """What everybody may choose from, the first database first; reads no large file."""
        database = self.world.database
        first = Entry(self.key, database.label, len(database))
        found = {entry.key: entry for entry in (*self._bundled(), *self._listed())}
        found.pop(self.key, None)
        return [first, *found.values()]

    def find(self, key: str) -> RissolePipeline | None:
        """The model with the database of that key; None when there is none, or not any more.

        Raises:
            RissoleError: when the database is damaged.
        """
        known = self._known(key)
        if known is not None:
            return known
        entry = next((entry for entry in self.entries() if entry.key == key), None)
        return None if entry is None else self._open(entry)

    def opened(self, key: str) -> Database | None:
        """The database of that key if it is in use; loads nothing."""
        if key == self.key:
            return self.world.database
        pipe = self._known(key)
        return self._databases.get(key) if pipe is None else pipe.database

    def named(self, fingerprint: str | None, own: Iterable[str | None] = ()) -> str | None:
        """Key of the database with a fingerprint: anybody may choose it, or it is among `own`."""
        for key in filter(None, own):
            pipe = self.find(key)
            if pipe is not None and pipe.database.fingerprint == fingerprint:
                return key
        return next((e.key for e in self.entries() if e.key == fingerprint), None)

    def keep(self, pipe: RissolePipeline, visit: str | None) -> str:
        """Keeps a visitor's own database until the page is closed; returns its key.

        Raises:
            RissoleError: when there is no room for it.
        """
        key = secrets.token_urlsafe(18)
        # with the model that it shares: there is never a second one of it in memory
        kept = pipe, self.start
        self.household.photos.add(visit or "", key, kept, own_bytes(pipe), asking()[0])
        return key

    def drop(self, key: str | None) -> None:
        """Forgets one database of a visitor."""
        self.household.photos.drop(key or "")

    def _known(self, key: str) -> RissolePipeline | None:
        """The model with a database that is open."""
        if key == self.key:
            return self.start
        pipe, model = self.household.photos.get(key) or (self.world.shared.get(key), None)
        ours = model is None or model.fingerprint == self.world.fingerprint
        return pipe if ours else None  # what is of another world stays there

    def _bundled(self) -> list[Entry]:
        folder = self.world.folder
        if folder is None or not (folder / "database" / DATABASE_FILE).is_file():
            return []
        facts = DatabaseFacts.read(folder / "database")
        key = fingerprint(read_manifest(folder), IN_BUNDLE)
        return [Entry(key, facts.label, facts.count, folder / "database")]

    def _listed(self) -> list[Entry]:
        folder = self.world.folder
        made_for = None if folder is None else latent_fingerprint(read_manifest(folder))
        found = []
        for path, facts in list_databases(*self._folders):
            try:
                manifest = read_manifest(path)
            except RissoleError:
                continue  # half a copy, say; the others are fine
            if manifest.get("encoder") == made_for:
                found.append(Entry(fingerprint(manifest, DATA), facts.label, facts.count, path))
        return found

    def _open(self, entry: Entry) -> RissolePipeline:
        path, folder = entry.path, self.world.folder
        if path is None:
            return self.start
        own = folder is not None and path == folder / "database"
        # a bundle's own was verified together with the bundle
        database = Database.open(path, entry.key) if own else path
        pipe = self.start.with_database(self._databases.get(entry.key, database))
        with self._lock:
            self._databases[entry.key] = pipe.database
            return self.world.shared.setdefault(entry.key, pipe)


def own_bytes(pipe: RissolePipeline) -> int:
    """Bytes of a visitor's own pictures in memory, once every encoder was asked for them."""
    database = pipe.database.more if isinstance(pipe.database, Extended) else pipe.database
    items = range(len(database))
    thumbnails = sum(len(database.webp(item)) for item in items)
    latents = 2 * len(database) * math.prod(database.latent_shape)  # 16 bits each
    vectors = 4 * len(database) * sum(e.dim for e in pipe.retriever.encoders.values())
    return OWN_BYTES + thumbnails + latents + vectors


def seen_by(pipe: RissolePipeline, encoder: str | None) -> RissolePipeline:
    """The same model and database, where pictures are compared by another encoder."""
    if encoder is None or encoder == pipe.retriever.encoder.name:
        return pipe
    return pipe.with_encoder(encoder)


def usable(pipe: RissolePipeline) -> list[str]:
    """Names of the encoders that this database can be searched with, without a long wait."""
    database = pipe.database
    own = database.facts.encoder

    def fits(name: str) -> bool:
        encoder = pipe.retriever.encoders[name]
        if database.facts.encoder_name == name:
            return own is None or own.id == encoder.id
        return len(database) <= QUICK or database.ready(encoder)

    return [name for name in pipe.retriever.encoders if fits(name)]
