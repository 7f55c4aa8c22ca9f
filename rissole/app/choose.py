"""Choosing a query, and its neighbors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from rissole.app.errors import clear_errors
from rissole.app.frames import data_uri
from rissole.app.pace import Steps, answering
from rissole.app.page import Page
from rissole.app.parts import component, telling
from rissole.app.showcase import Showcase
from rissole.app.state import Query, Visit, place
from rissole.app.studio import PRIVATE, QUIET, Studio, plain
from rissole.app.zerogpu import on_gpu
from rissole.config import GRIDS, MAX_NEIGHBORS, RissoleError
from rissole.pipeline import RissolePipeline
from rissole.retrieval.database import Hits
from rissole.retrieval.duplicates import correlation

# two pictures are marked as nearly the same above both: any two dark ones have the first
NEAR = 0.9  # cosine of their vectors
ALIKE = 0.8  # correlation of their latents
ROW = ("id", "score", "on", "pin", "twin", "label")  # what is known of a neighbor
LONGEST = 500  # characters of a label


class Choosing:
    """The event handlers around the query.

    The value of the neighbors is `{query, hits: [{id, score, on, pin, twin, label}], blocks,
    source, mine}`. The browser changes it freely (`on`, `pin`, order, additions, `blocks`: ids by
    "row,col") and it comes back with every event, so nothing in it is taken on trust.
    """

    def __init__(self, studio: Studio):
        self.studio, self.errors = studio, studio.errors
        self._lent = on_gpu(20)(self._found)  # encodes a picture or words; the rest is look-ups

    def opening(
        self, showcase: Showcase | None, visit: Visit, k: int, neighbors: dict | None
    ) -> tuple[Visit, dict]:
        """What the page opens with: the query of the showcase, or a random one.

        It is marked: those of a showcase are on the page before, and may have been changed since.
        """
        with clear_errors(self.errors):
            query = Query() if showcase is None else Query(item=showcase.item)
            seen, found = self.found(visit, query, k, neighbors)
            return seen, {**found, "opening": True}

    def surprise(self, visit: Visit, k: int, neighbors: dict | None) -> tuple[Visit, dict]:
        """A random query and its neighbors."""
        with clear_errors(self.errors):
            return self.found(visit, Query(), k, neighbors)

    def pick(
        self, visit: Visit, k: int, neighbors: dict | None, event: gr.EventData
    ) -> tuple[Visit, dict]:
        """A gallery picture as the query."""
        with clear_errors(self.errors):
            item = self.studio.item(getattr(event, "item", None))
            return self.found(visit, Query(item=item), k, neighbors)

    def upload(
        self, visit: Visit, k: int, neighbors: dict | None, path: str | None
    ) -> tuple[Visit, dict]:
        """An uploaded picture as the query."""
        with clear_errors(self.errors):
            query = Query(image=self.studio.sent_picture(path))
            return self.found(visit, query, k, neighbors)

    @answering
    def describe(self, visit: Visit, k: int, neighbors: dict | None, text: str | None) -> Steps:
        """Words as the query.

        Returns:
            (visit, neighbors, update of the box, update of the clock that asks again while the
            model that reads words is on its way)
        """
        with clear_errors(self.errors):
            here = self.studio.of(visit)
            if here.reader is not None and here.unread(text):
                here.reader.begin(here.pipe)
                return gr.skip(), gr.skip(), self._told(), gr.Timer(active=True)
            words = here.query_words(text)
            yield from here.prepared(text=words)
            found = self.found(visit, Query(text=words), k, neighbors)
            return *found, gr.update(info=""), gr.Timer(active=False)

    def read(self, visit: Visit, k: int, neighbors: dict | None, text: str | None) -> Any:
        """How far that model is; what was asked once it is here. Returns as `describe` does."""
        reader = self.studio.reader
        assert reader is not None
        now = reader.progress
        if now is None:
            return self.describe(visit, k, neighbors, text)
        going_on = now.error is None
        return gr.skip(), gr.skip(), self._told(), gr.skip() if going_on else gr.Timer(active=False)

    def _told(self) -> dict:
        reader = self.studio.reader
        return gr.update(info="" if reader is None else reader.said(self.studio.words["query"]))

    def more(
        self, visit: Visit, k: int, neighbors: dict | None, event: gr.EventData
    ) -> tuple[Visit, dict]:
        """The picture on show as the query."""
        with clear_errors(self.errors):
            shown = visit.pictures[: place(visit.pictures, event) + 1]
            if not shown:
                raise RissoleError(self.errors["back"])
            query = Query(image=shown[-1].output.images[0], painted=True)
            return self.found(visit, query, k, neighbors)

    def again(self, visit: Visit, k: int, neighbors: dict | None) -> tuple[Visit, dict]:
        """The same query with another k; neighbors that were off stay off."""
        with clear_errors(self.errors):
            off = {hit.get("id") for hit in hits_of(neighbors) if not hit.get("on")}
            return self.found(visit, visit.query, k, neighbors, off)

    def found(
        self,
        visit: Visit,
        query: Query,
        k: int,
        neighbors: dict | None = None,
        off: Iterable[Any] = (),
    ) -> tuple[Visit, dict]:
        """Searches; pinned neighbors and those of single blocks stay.

        Args:
            visit: what is remembered so far.
            query: what to search with.
            k: how many to find.
            neighbors: the value of the neighbors so far, from the browser.
            off: ids that come switched off.
        """
        lent = query.image is not None or query.text is not None
        return (self._lent if lent else self._found)(visit, query, k, neighbors, off)

    def _found(
        self, visit: Visit, query: Query, k: int, neighbors: dict | None, off: Iterable[Any]
    ) -> tuple[Visit, dict]:
        here = self.studio.of(visit)
        hits = search(here.pipe, query, plain(k), visit.label)
        if not query.arguments():
            query = Query(item=hits.item)
        known = range(len(here.pipe.database))
        asked = [plain(hit.get("id")) for hit in hits_of(neighbors) if hit.get("pin") is True]
        pinned = [i for i in dict.fromkeys(asked) if type(i) is int and i in known]
        rows = _rows(here.pipe, hits, pinned, query)
        rows = [{**row, "on": row["id"] not in set(off)} for row in rows]
        if not any(row["on"] for row in rows):
            rows = [{**row, "on": True} for row in rows]
        return replace(visit, query=query), value_of(here, query, rows, blocks_of(neighbors))


def value_of(
    studio: Studio, query: Query | None, rows: Sequence[dict], blocks: Mapping[str, Any]
) -> dict[str, Any]:
    """The value of the neighbors, see `Choosing`."""
    shown = {"query": shown_query(query), "hits": list(rows), "blocks": dict(blocks)}
    return {**shown, "source": studio.key, "mine": studio.own}


def search(pipe: RissolePipeline, query: Query, k: Any, label: str | None) -> Hits:
    """The neighbors of a query; an only picture is its own neighbor."""
    hits = pipe.retrieve(**query.arguments(), k=k, label=label)
    if hits.ids:
        return hits
    alone = pipe.retrieve(image=hits.query, k=k, label=label)
    return replace(alone, item=hits.item)


def _rows(pipe: RissolePipeline, hits: Hits, pinned: list[int], query: Query) -> list[dict]:
    score = dict(zip(hits.ids, hits.scores, strict=True))
    ids = list(dict.fromkeys((*pinned, *(int(i) for i in hits.ids))))[:MAX_NEIGHBORS]
    others = [i for i in ids if i not in score]
    if others:
        known = pipe.retriever.similarity(query.near, others, query.text)
        score |= zip(others, known, strict=True)
    return rows_of(pipe, ids, score, pinned)


def rows_of(
    pipe: RissolePipeline,
    ids: Sequence[int],
    score: Mapping[int, float],
    pinned: Sequence[int] = (),
) -> list[dict]:
    """What the page shows of neighbors: similarity and class where known, near-duplicates.

    Args:
        pipe: whose database they are in.
        ids: the neighbors.
        score: cosines of those whose similarity to the query is known.
        pinned: ids that stay when the query changes.
    """
    vectors = {i: pipe.database.vector(i) for i in ids}
    latents = dict(zip(ids, pipe.database.latents(ids).numpy(), strict=True))
    labels = dict(zip(ids, pipe.database.labels(ids), strict=True))

    def same(i: int, j: int) -> bool:
        near = float(vectors[i] @ vectors[j]) > NEAR
        return near and correlation(latents[i], latents[j]) > ALIKE

    twins = {i: next((j for j in ids[:n] if same(i, j)), None) for n, i in enumerate(ids)}
    return [
        {
            "id": i,
            "score": None if i not in score else round(float(score[i]), 4),
            "pin": i in pinned,
            "twin": twins[i],
            "label": labels[i],
        }
        for i in ids
    ]


def hits_of(neighbors: Any) -> list[dict]:
    """The hits in the value of the neighbors; it comes from the browser, anything may be in it.

    Of each only what belongs there is kept, and nothing long.
    """
    hits = neighbors.get("hits") if isinstance(neighbors, dict) else None
    listed = hits[: 2 * MAX_NEIGHBORS] if isinstance(hits, list) else []
    rows = [hit for hit in listed if isinstance(hit, dict)]
    return [{name: row[name] for name in ROW if name in row and _short(row[name])} for row in rows]


def _short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, (int, float))


def remembered(neighbors: Any) -> dict[str, Any]:
    """Of the value of the neighbors, what a visit keeps beside a picture."""
    return {"hits": hits_of(neighbors), "blocks": blocks_of(neighbors)}


def blocks_of(neighbors: Any) -> dict[str, Any]:
    """The neighbors of single blocks, ids by "row,col", as the browser sent them.

    Places that no grid has are left out, and of what is not a short list of numbers nothing is
    kept but that it was there.
    """
    blocks = neighbors.get("blocks") if isinstance(neighbors, dict) else None
    known = {f"{row},{col}" for row in range(max(GRIDS)) for col in range(max(GRIDS))}
    found = blocks if isinstance(blocks, dict) else {}
    return {at: _few(ids) for at, ids in found.items() if at in known}


def _few(ids: Any) -> list:
    if not isinstance(ids, list):
        return []
    return [i if isinstance(i, (int, float)) else None for i in ids[: MAX_NEIGHBORS + 1]]


def shown_query(query: Query | None) -> dict[str, Any] | None:
    """What the page shows of a query."""
    if query is None or not query.arguments():
        return None
    if query.image is not None:
        return {"image": data_uri(query.image), "painted": query.painted}
    return {"text": query.text} if query.text is not None else {"item": query.item}


def queries(page: Page) -> None:
    """Lays out the ways to choose a query."""
    pipe, said = page.studio.pipe, page.studio.words["query"]
    with gr.Row(elem_classes="rs-buttons"):
        page.surprise = gr.Button(said["surprise"], size="sm", elem_id="rs-surprise", min_width=0)
        # no file_types: what a file is called says little, load_image judges what is in it
        page.upload = gr.UploadButton(said["upload"], size="sm", elem_id="rs-upload", min_width=0)
    reader, reads = page.studio.reader, pipe.retriever.text_encoder
    if reads or reader or pipe.database.classes:
        names = ", ".join(pipe.database.classes[:3])
        any_words = said["textClasses"] if names and not reads else said["textExample"]
        page.text = gr.Textbox(
            label=said["text"],
            placeholder=any_words.format(names=names),
            info=None if reads or reader is None else reader.said(said),
            elem_id="rs-text",
        )
        page.reading = gr.Timer(1.0, active=False)
    count = len(pipe.database)
    page.gallery = component(*("gallery", said, "rs-gallery"), source=page.studio.key, count=count)


def nearest(page: Page) -> None:
    """Lays out the neighbors of the query."""
    pipe, words = page.studio.pipe, page.studio.words
    most, first = most_neighbors(pipe), None
    if page.showcase is not None:  # at once, not when the page has asked
        search = partial(Choosing(page.studio).opening, page.showcase)
        first = search(Visit(), len(page.showcase.recipe.neighbors), None)[1]
    page.neighbors = component(
        *("neighbors", words["neighbors"], "rs-neighbors", ("measure",)),
        value=first,
        source=page.studio.key,
        queryTexts=words["query"],
        most=MAX_NEIGHBORS,
    )
    added = words["neighbors"]["upload"]
    with gr.Row(elem_id="rs-more-neighbors"):
        page.k = gr.Slider(
            *(1, most),
            value=min(pipe.defaults["k"], most),
            step=1,
            label=words["neighbors"]["k"],
            elem_id="rs-k",
            min_width=0,
        )
        page.add = gr.UploadButton(added, size="sm", elem_id="rs-add", min_width=0)


def most_neighbors(pipe: RissolePipeline, label: str | None = None) -> int:
    """The largest k that makes sense, in one class or all: the query itself does not count."""
    there = len(pipe.database) if label is None else int(pipe.database.members(label).sum())
    return max(2, min(MAX_NEIGHBORS, there - 1))  # a slider needs two places


def wire(page: Page) -> None:
    """Connects the query and its neighbors with the pipeline."""
    actions = Choosing(page.studio)
    given, found = [page.visit, page.k, page.neighbors], [page.visit, page.neighbors]
    page.demo.load(partial(actions.opening, page.showcase), given, found, **QUIET)
    page.surprise.click(actions.surprise, given, found, **QUIET)
    page.canvas.pick(actions.pick, given, found, **QUIET)
    page.canvas.more(actions.more, given, found, **QUIET)
    read = page.upload.upload(actions.upload, [*given, page.upload], found, **QUIET)
    read.failure(None, js=telling("unread"), **PRIVATE)
    if page.text is not None:
        words = [*given, page.text], [*found, page.text, page.reading]
        page.text.submit(actions.describe, *words, **QUIET)
        page.reading.tick(actions.read, *words, **QUIET)
    page.k.input(actions.again, given, found, trigger_mode="always_last", **QUIET)
