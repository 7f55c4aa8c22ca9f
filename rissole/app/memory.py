"""What a visitor searches in: a database, one class of it, compared by what, or own photos."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from rissole.app.assets import filled
from rissole.app.choose import Choosing, blocks_of, hits_of, most_neighbors, rows_of, value_of
from rissole.app.databases import Sources, usable
from rissole.app.decoder import reader
from rissole.app.errors import clear_errors
from rissole.app.extended import Extended
from rissole.app.pace import Ahead, Steps, Tick, answering
from rissole.app.page import Page
from rissole.app.parts import component, telling
from rissole.app.state import Query, Visit
from rissole.app.studio import PRIVATE, QUIET, Studio
from rissole.app.uploads import uploaded
from rissole.app.zerogpu import on_gpu
from rissole.config import MAX_NEIGHBORS, RissoleError
from rissole.pipeline import RissolePipeline
from rissole.retrieval.database import Database
from rissole.retrieval.retriever import MAX_PICTURES

SHOWN = 50  # names of skipped files
MAX_ADDED = 32  # pictures behind those of a database, one after another


class Remembering:
    """The event handlers of the database, its classes, the encoders and a visitor's photos.

    Those that change what is searched in return (visit, value of the memory, value of the
    neighbors, update of k, message to the canvas).
    """

    def __init__(self, studio: Studio):
        self.studio, self.errors = studio, studio.errors
        self.choosing, self.encoded = Choosing(studio), on_gpu(60)(self._encoded)

    def show(self, visit: Visit) -> dict[str, Any]:
        """The value of the memory: what there is, and what of it is in use."""
        here, sources = self.studio.of(visit), self.studio.sources
        database, encoders = here.pipe.database, here.pipe.retriever.encoders
        mine = None if visit.photos is None else sources.find(visit.photos)
        entries = [{"key": e.key, "label": e.label, "count": e.count} for e in sources.entries()]
        own = None if mine is None else {"key": visit.photos, "count": len(mine.database)}
        return {
            "source": here.key,
            "chosen": original(sources, here.key),
            "count": len(database),
            "added": added(database),
            "about": database.label,
            "fingerprint": database.fingerprint,
            "databases": entries,
            "classes": database.classes,
            "label": visit.label,
            "encoders": [
                {"name": name, "label": encoders[name].label} for name in usable(here.pipe)
            ],
            "encoder": here.pipe.retriever.encoder.name,
            "own": own and {**own, "skipped": list(visit.skipped[:SHOWN])},
            "skipped": len(visit.skipped),
            "mark": secrets.token_hex(4),  # one like the last would not be noticed
        }

    @answering
    def choose(self, visit: Visit, k: int, event: gr.EventData) -> Steps:
        """Another database; its name comes from the browser."""
        with clear_errors(self.errors):
            key = getattr(event, "key", None)
            if not isinstance(key, str):
                raise RissoleError(self.errors["gone"])
            return (yield from self.moved(replace(visit, source=key), k))

    def filter(self, visit: Visit, k: int, neighbors: dict | None, event: gr.EventData) -> tuple:
        """Only one class, or all of them again."""
        with clear_errors(self.errors):
            label = getattr(event, "label", None)
            if label is not None:
                self.studio.of(visit).pipe.database.members(label)
            return self._searched(replace(visit, label=label), k, neighbors)

    @answering
    def compare_by(
        self, visit: Visit, k: int, neighbors: dict | None, event: gr.EventData
    ) -> Steps:
        """Another encoder for the same query."""
        with clear_errors(self.errors):
            name = getattr(event, "encoder", None)
            here = self.studio.of(visit)
            if name not in usable(here.pipe):
                here.pipe.retriever.find_encoder(str(name))
                raise RissoleError(self.errors["encoder"])
            yield from here.prepared(name)
            return self._searched(replace(visit, encoder=name), k, neighbors, visit.query)

    @answering
    def photos(self, visit: Visit, k: int, event: gr.EventData, request: gr.Request) -> Steps:
        """A visitor's own photos in place of the gallery, until the page is closed."""
        with clear_errors(self.errors):
            files, told = self._arrived(event)
            images, left_out = yield from self._decoded(files)
            if not images:
                raise RissoleError(f"{self.errors['noPhotos']} {left_out[0]}")
            sources, said = self.studio.sources, self.studio.words["memory"]["own"]
            database = yield from self._in_steps(images, said)
            sources.drop(visit.photos)
            key = sources.keep(sources.start.with_database(database), request.session_hash)
            skipped = (*told, *left_out)
            visit = replace(visit, source=key, photos=key, skipped=skipped)
            return (yield from self.moved(visit, k))

    def _arrived(self, event: gr.EventData) -> tuple[list[Path], list[str]]:
        """(photos that were sent, what the browser says of those it left out)."""
        paths = _listed(getattr(event, "files", None))
        files = [file for file in map(uploaded, paths) if file is not None]
        told = [str(name)[:200] for name in _listed(getattr(event, "skipped", None))]
        if not files:
            raise RissoleError(self.errors["noPhotos"])
        return files, told + [self.errors["lost"]] * (len(paths) - len(files))

    def _decoded(self, files: list[Path]) -> Steps:
        """Picture by picture: (squares, why others were left out); nothing stays on the disk."""
        images, left_out, size = [], [], self.studio.pipe.image_size
        try:
            yield Ahead(float(len(files)))  # encoding one takes about as long as an evaluation
            for read in reader().squares(files, size, self.errors["late"]):
                if isinstance(read, RissoleError):
                    left_out.append(str(read))
                else:
                    images.append(read)
                yield Tick()
        finally:
            for file in files:
                self.studio.sources.household.disk.read_once(file)
        return images, left_out

    def _in_steps(self, images: list, label: str) -> Steps:
        """Picture by picture, a database of some."""
        with contextlib.closing(self.encoded(images, label)) as steps:
            while (made := next(steps)) is None:
                yield Tick()
        return made

    @answering
    def add(
        self, visit: Visit, neighbors: dict | None, path: str | None, request: gr.Request
    ) -> Steps:
        """One uploaded picture behind those of the database, and among the neighbors.

        Returns:
            (visit, value of the memory, value of the neighbors)
        """
        with clear_errors(self.errors):
            hits, here = hits_of(neighbors), self.studio.of(visit)
            if len(hits) >= MAX_NEIGHBORS:
                full = self.studio.words["neighbors"]["full"]
                raise RissoleError(filled(full, most=MAX_NEIGHBORS))
            if getattr(here.pipe.database, "depth", 0) >= MAX_ADDED:
                raise RissoleError(self.errors["room"])
            picture = here.sent_picture(path)
            more = yield from self._in_steps([picture], self.studio.words["query"]["image"])
            own = here.pipe.database.facts.encoder_name
            encoder = here.pipe.retriever.find_encoder(own)
            both = Extended(here.pipe.database, more, encoder, here.key)
            joined = here.pipe.with_database(both)
            visit = replace(visit, source=self.studio.sources.keep(joined, request.session_hash))
            hits = [*hits, {**_new_row(joined, visit.query), "on": True, "pin": True}]
            value = value_of(self.studio.of(visit), visit.query, hits, blocks_of(neighbors))
            return visit, self.show(visit), value

    def _encoded(self, images: list, label: str) -> Generator[Database | None, None, None]:
        yield from self.studio.sources.start.retriever.gathering(images, label)

    def moved(self, visit: Visit, k: int) -> Steps:
        """Everything that changes together with the database."""
        visit = self.at(visit)
        yield from self.studio.of(visit).prepared()
        visit, neighbors = self.choosing.found(visit, Query(), k)
        # what was painted from another database cannot be repainted from this one
        canvas = {"state": "idle", "mark": secrets.token_hex(4)}
        return visit, self.show(visit), neighbors, self.limit(visit, k), canvas

    def at(self, visit: Visit) -> Visit:
        """A visit that has just come to its database: nothing of another one is left in it."""
        pipe = self.studio.of(replace(visit, encoder=None)).pipe
        encoder = visit.encoder if visit.encoder in usable(pipe) else None
        return replace(visit, query=Query(), pictures=(), label=None, encoder=encoder)

    def limit(self, visit: Visit, k: Any) -> dict:
        """Update of the slider: no more neighbors than there are pictures beside the query."""
        most = most_neighbors(self.studio.of(visit).pipe, visit.label)
        fits = isinstance(k, int | float) and k <= most
        return gr.update(maximum=most, value=k if fits else most)

    def _searched(
        self, visit: Visit, k: int, neighbors: dict | None, query: Query | None = None
    ) -> tuple:
        visit, value = self.choosing.found(visit, query or Query(), k, neighbors)
        return visit, self.show(visit), value, self.limit(visit, k), gr.skip()


def _new_row(pipe: RissolePipeline, query: Query) -> dict[str, Any]:
    """What the page shows of the last picture of a database."""
    new, known = len(pipe.database) - 1, {}
    if query.arguments():
        known = {new: pipe.retriever.similarity(query.near, [new], query.text)[0]}
    return rows_of(pipe, [new], known)[0]


def original(sources: Sources, key: str) -> str:
    """The key of the database that was chosen, before pictures were added to it."""
    pipe = sources.find(key)
    while pipe is not None and isinstance(pipe.database, Extended):
        key = pipe.database.extends
        pipe = sources.find(key)
    return key


def added(database: Database) -> int:
    """How many pictures of the visitor are behind those of a database."""
    if not isinstance(database, Extended):
        return 0
    return len(database.more) + added(database.first)


def _listed(value: Any) -> list:
    return list(value[: 2 * MAX_PICTURES]) if isinstance(value, list) else []


def section(page: Page) -> None:
    """Lays out the menus, and what one does with own photos."""
    studio = page.studio
    page.memory = component(
        *("memory", studio.words["memory"], "rs-memory", ("move", "sift", "photos")),
        source=studio.key,
        count=len(studio.pipe.database),
        about=studio.pipe.database.label,
        size=2 * studio.pipe.image_size,
        most=MAX_PICTURES,
    )


def wire(page: Page) -> None:
    """Connects the memory with the pipeline."""
    actions, memory = Remembering(page.studio), page.memory
    moved = [page.visit, memory, page.neighbors, page.k, page.canvas]
    page.demo.load(actions.show, [page.visit], [memory], **QUIET)
    given = [page.visit, page.k]
    events = [
        memory.move(actions.choose, given, moved, **QUIET),
        memory.sift(actions.filter, [*given, page.neighbors], moved, **QUIET),
        page.neighbors.measure(actions.compare_by, [*given, page.neighbors], moved, **QUIET),
        memory.photos(actions.photos, given, moved, **QUIET),
    ]
    given = [page.visit, page.neighbors, page.add]
    read = page.add.upload(actions.add, given, [page.visit, memory, page.neighbors], **QUIET)
    read.failure(None, js=telling("unread"), **PRIVATE)
    for event in events:
        event.failure(None, js=telling("unmoved"), **PRIVATE)
