"""Keeping and sharing: history, favorites, links, films, contact sheets, pictures put back."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from rissole.app.animation import animated, filmed
from rissole.app.assets import filled
from rissole.app.choose import blocks_of, hits_of, rows_of, value_of
from rissole.app.controls import SLIDER_GUIDANCE, SLIDER_STRENGTH, most_steps
from rissole.app.errors import clear_errors
from rissole.app.frames import Throttle
from rissole.app.labeled_sheets import block_sheet
from rissole.app.links import decode, encode, query_of
from rissole.app.memory import Remembering
from rissole.app.offer import Offer
from rissole.app.pace import Ahead, Tick
from rissole.app.page import Page
from rissole.app.painting import Painting
from rissole.app.parts import component, telling
from rissole.app.state import Picture, Query, Visit, place
from rissole.app.studio import PRIVATE, QUIET, Studio
from rissole.app.zerogpu import lease, on_gpu
from rissole.config import Recipe, RissoleError
from rissole.data.images import read_recipe_and_query
from rissole.outputs import BlockStep
from rissole.runs import as_python, numbers_of, record

EVENTS = ("recall", "film", "sheet", "run", "python", "quit")
MOST_NUMBERS = 2_900_000  # of a stored run: 12 MB while it is painted, as JSON some 60 MB
SETTINGS = 10  # how many components the memory and `_settings` set


class Sharing:
    """The event handlers of the shelf.

    Args:
        studio: of the page.
        offer: the worlds that have a page each.
    """

    def __init__(self, studio: Studio, offer: Offer):
        self.studio, self.errors, self.offer = studio, studio.errors, offer
        self.words, self.painting = studio.words["share"], Painting(studio)
        self.remembering, self.defaults = Remembering(studio), studio.pipe.defaults
        self.painted, self.lent = on_gpu(self._lease)(self._painted), on_gpu(20)(self._neighbors)
        self.recorded = on_gpu(self._lease)(self._recorded)

    # -- pictures put back

    def back(self, visit: Visit, event: gr.EventData) -> tuple:
        """The picture before the one on show, with all that it was painted with.

        Returns:
            (canvas message, file to download, visit, then the settings)
        """
        with clear_errors(self.errors):
            kept = visit.pictures[: place(visit.pictures, event)]
            if not kept:
                raise RissoleError(self.errors["back"])
            last, here = kept[-1], self.studio.of(visit)
            visit = replace(visit, pictures=kept, query=last.query, neighbors=last.neighbors)
            hits = hits_of(last.neighbors)
            neighbors = value_of(here, last.query, hits, blocks_of(last.neighbors))
            _, *settings, _ = self._settings(last.recipe, visit, fresh=False)
            k = self.remembering.limit(visit, len(hits))
            picture = self.painting.shown(visit), self.painting.file(last), visit
            return *picture, neighbors, k, *settings, gr.skip()

    def recall(self, visit: Visit, event: gr.EventData) -> Iterator[tuple]:
        """A link: its settings and its picture, or with `fresh` all settings but the seed.

        Yields:
            (canvas message, file to download, visit, what the shelf is told, then the settings)
        """

        def frames() -> Iterator[tuple]:
            link, fresh = getattr(event, "link", None), bool(getattr(event, "fresh", False))
            recipe, item = decode(link, self.defaults), query_of(link)
            there = self._checked(visit, recipe, item)
            query = None if item is None else Query(item=item)
            yield from self._put_back(recipe, there, visit, query, fresh)

        yield from self.painting.safely(frames(), 4 + SETTINGS)

    def restore(self, visit: Visit, path: str | None) -> Iterator[tuple]:
        """A PNG file with a recipe: its settings and its picture; yields as `recall` does.

        That of another world on offer is opened there: the shelf is told where.
        """
        with clear_errors(self.errors):  # before the canvas is touched
            file = self.studio.uploaded(path)
            raw, item = read_recipe_and_query(file)
            if raw is None:
                raise RissoleError(self.errors["recipe"])
            recipe = Recipe.from_dict(raw)
            other = self.offer.other(recipe, self.studio.sources)
            there = visit if other else self._checked(visit, recipe, item)
        if other is not None:
            away = {"away": f"{other.address}?{encode(recipe, item)}"}
            yield gr.skip(), gr.skip(), visit, away, *[gr.skip()] * SETTINGS
            return
        query = Query(item=item)
        if item is None:  # what was searched with is not in the file: the picture comes nearest
            query = Query(image=self.studio.query_picture(file), painted=True)
        frames = self._put_back(recipe, there, visit, query)
        yield from self.painting.safely(frames, 4 + SETTINGS)

    def _checked(self, visit: Visit, recipe: Recipe, item: int | None) -> Visit:
        """The visit, moved to the database of a recipe that can be painted there."""
        there, here, sources = visit, visit.source or self.studio.key, self.studio.sources
        found: str | None = here  # a recipe that names no database is one for any
        if recipe.database is not None:
            found = sources.named(recipe.database, (visit.source, visit.photos))
        if found not in (None, here):
            there = self.remembering.at(replace(visit, source=found))
        studio = self.studio.of(there)
        pipe = studio.pipe
        if found is None and recipe.bundle in (None, pipe.fingerprint):
            raise RissoleError(self.errors["elsewhere"])
        pipe.check(recipe)
        studio.ahead([recipe])
        pipe.database.check([] if item is None else [item])
        return there

    def _put_back(
        self,
        recipe: Recipe,
        there: Visit,
        visit: Visit,
        query: Query | None,
        fresh: bool = False,
    ) -> Iterator[Any]:
        same = [gr.skip()] * (1 + SETTINGS)
        moved = there is not visit
        yield from self.studio.of(there).prepared()
        neighbors = self.near(recipe, there, query)
        visit = replace(there, query=query or Query(), neighbors=neighbors)
        begun = {"begun": None if fresh else secrets.token_hex(4)}
        canvas = {"state": "idle", "mark": secrets.token_hex(4)} if moved and fresh else gr.skip()
        settings = neighbors, *self._settings(recipe, visit, fresh)
        yield (
            canvas,
            gr.skip(),
            visit,
            begun,
            self.remembering.show(visit) if moved else gr.skip(),
            *settings,
        )
        if fresh:
            return
        for shown in self._chain(recipe, visit):
            if isinstance(shown, tuple):
                message, path, changed = shown
                yield message, path, changed, *same
            else:
                yield shown
        if query is None:  # what the neighbors are near to, as far as can be told
            query = Query(image=changed.pictures[-1].output.images[0], painted=True)
            found = gr.skip(), gr.skip(), self.near(recipe, visit, query), *same[3:]
            yield gr.skip(), gr.skip(), replace(changed, query=query), *found

    def _chain(self, recipe: Recipe, visit: Visit) -> Iterator[Any]:
        """Paints a recipe with all that it was painted upon; yields as `Painting.frames` does."""
        whole = self.studio.of(visit).ahead([recipe])
        for layer in recipe.layers:
            with contextlib.closing(self.painting.frames(layer, visit)) as frames:
                for shown in frames:
                    if isinstance(shown, tuple):
                        message, path, changed = shown
                        going_on = {} if layer is recipe else {"state": "running"}
                        yield {**message, **going_on}, path, changed
                    else:
                        yield whole if isinstance(shown, Ahead) else shown
            visit = changed

    def _settings(self, recipe: Recipe, visit: Visit, fresh: bool) -> tuple:
        """Values for k, order, grid, steps, guidance, strength, seed and new_seed."""
        steps, guidance = recipe.num_inference_steps, recipe.guidance_scale
        strength, usual = recipe.strength, most_steps(self.studio.pipe)
        return (
            self.remembering.limit(visit, len(recipe.neighbors)),
            recipe.order,
            recipe.grid,
            gr.update(value=steps, maximum=max(steps, usual)),
            gr.update(value=guidance, maximum=max(guidance, SLIDER_GUIDANCE)),
            gr.update(value=strength, maximum=max(strength, SLIDER_STRENGTH)),
            gr.skip() if fresh else str(recipe.seed),
            fresh,
        )

    def near(self, recipe: Recipe, visit: Visit, query: Query | None) -> dict:
        """The neighbors of a recipe, and how near they are where the query can be compared."""
        computes = query is not None and query.image is not None
        return (self.lent if computes else self._neighbors)(recipe, visit, query)

    def _neighbors(self, recipe: Recipe, visit: Visit, query: Query | None) -> dict:
        ids, here = list(recipe.neighbors), self.studio.of(visit)
        score: dict[int, float] = {}
        near = None if query is None else query.near
        if near is not None:
            score = dict(zip(ids, here.pipe.retriever.similarity(near, ids), strict=True))
        hits = [{**row, "on": True} for row in rows_of(here.pipe, ids, score)]
        return value_of(here, query, hits, recipe.to_dict()["block_neighbors"])

    # -- files

    def film(self, visit: Visit, event: gr.EventData) -> Iterator[Any]:
        """The painting of a link as an animated GIF; yields what the shelf is told."""
        with clear_errors(self.errors):
            recipe = decode(getattr(event, "link", None), self.defaults)
            there = self._checked(visit, recipe, None)
            yield self.studio.of(there).ahead([recipe])
            frames, throttle = [], Throttle(4)
            for done, frame in self.painted(recipe, there):
                frames += [] if frame is None else [frame]
                due = throttle.due(0, 1)
                yield {"job": "film", "done": round(done, 3)} if due else Tick()
            name = f"rissole-{recipe.seed}.gif"
            yield _done(self.studio.file(animated(frames), name))

    def _lease(self, recipe: Recipe, visit: Visit, *_: Any) -> int:
        return lease(self.studio.of(visit).ahead([recipe]).work)

    def _painted(self, recipe: Recipe, visit: Visit) -> Iterator[tuple]:
        yield from filmed(self.studio.of(visit).pipe, recipe)

    def sheet(self, visit: Visit, event: gr.EventData) -> Iterator[Any]:
        """Contact sheet of a link: every block beside those it listened to; yields as `film`."""
        with clear_errors(self.errors):
            recipe = decode(getattr(event, "link", None), self.defaults)
            there = self._checked(visit, recipe, None)
            yield {"job": "sheet", "done": 0}
            shown = yield from self._picture(recipe, there)
            picture = self.studio.of(there).pipe.database.image
            shares = per_block(shown.attention, recipe.grid)
            title = filled(
                self.words["sheetTitle"],
                seed=recipe.seed,
                order=recipe.order,
                steps=recipe.num_inference_steps,
            )
            image = block_sheet(shown.output.images[0], shown.ids, shares, picture, title)
            name = f"rissole-{recipe.seed}-blocks.png"
            yield _done(self.studio.png(image, recipe.to_dict(), name))

    def run(self, visit: Visit, event: gr.EventData) -> Iterator[Any]:
        """Every step of a link as npz or json, or its shares as csv; yields as `film` does."""
        with clear_errors(self.errors):
            recipe, kind = decode(getattr(event, "link", None), self.defaults), event.kind
            there = self._checked(visit, recipe, None)
            if kind not in ("npz", "json", "csv"):
                raise RissoleError(self.errors["unexpected"])
            yield self.studio.of(there).ahead([recipe])
            self._fits(recipe, there, kind)
            yield {"job": kind, "done": 0}
            for data in self.recorded(recipe, there, f".{kind}"):
                if isinstance(data, Tick):
                    yield data
                else:
                    yield _done(self.studio.file(data, f"rissole-{recipe.seed}.{kind}"))

    def _fits(self, recipe: Recipe, visit: Visit, kind: str) -> None:
        """Raises RissoleError where all steps are more than one visitor may have in memory."""
        numbers = numbers_of(recipe, self.studio.of(visit).pipe.denoiser.latent_shape)
        if kind != "csv" and numbers > MOST_NUMBERS:
            told = self.errors["numbers"]
            raise RissoleError(told.format(numbers=f"{numbers:,}", most=f"{MOST_NUMBERS:,}"))

    def _recorded(self, recipe: Recipe, visit: Visit, kind: str) -> Iterator[Tick | bytes]:
        """Ticks as it paints, at last the bytes of the file."""
        here, ids = self.studio.of(visit), recipe.all_neighbors
        scores, seen = {}, list[BlockStep]()
        if visit.query.arguments():
            found = here.pipe.retriever.similarity(visit.query.near, ids, visit.query.text)
            scores = dict(zip(ids, found, strict=True))
        with contextlib.closing(here.stream(recipe)) as steps:
            beneath = len(recipe.layers) - 1
            for step in steps:
                if beneath or kind == ".csv" or seen[-1:] and seen[-1].output is not None:
                    seen.clear()  # what is beneath is not kept; a table needs the end alone
                seen.append(step)
                beneath -= bool(beneath and step.output is not None)
                yield Tick()
        yield record(seen, scores).encoded(kind)

    def python(self, visit: Visit, event: gr.EventData) -> dict:
        """A program that paints a link's picture."""
        with clear_errors(self.errors):
            recipe = decode(getattr(event, "link", None), self.defaults)
            there = self._checked(visit, recipe, None)
            name = self.studio.of(there).pipe.config["name"]
            return {"code": as_python(recipe.to_dict(), name), "mark": secrets.token_hex(4)}

    def _picture(self, recipe: Recipe, visit: Visit) -> Generator[Any, None, Picture]:
        at_hand = visit.painted(recipe)
        if at_hand is not None:
            return at_hand
        for shown in self._chain(recipe, replace(visit, pictures=())):
            if isinstance(shown, tuple):
                *_, changed = shown
            yield shown if isinstance(shown, Ahead) else Tick()
        return changed.pictures[-1]


def per_block(attention: np.ndarray, grid: int) -> np.ndarray:
    """Mean shares (rows, cols, k) of the blocks from maps (k, cells, cells)."""
    k, cells, _ = attention.shape
    parts = attention.reshape(k, grid, cells // grid, grid, cells // grid)
    return parts.mean((2, 4)).transpose(1, 2, 0)


def _done(file: str) -> dict:
    # a mark of its own, since a message like the one before would not be noticed
    return {"job": None, "mark": secrets.token_hex(4), "file": file}


def section(page: Page) -> None:
    """Lays out the shelf, and a button that is pressed by its script."""
    pipe, said = page.studio.pipe, page.studio.words["share"]
    with gr.Column(elem_classes="rs-card"):
        # what was kept for another model could not be painted by this one
        page.shelf = component("share", said, "rs-share", EVENTS, store=pipe.fingerprint)
        with gr.Row(elem_classes="rs-unseen"):
            page.opened = gr.UploadButton(said["open"], elem_id="rs-opened")


def wire(page: Page) -> None:
    """Connects the shelf with the pipeline."""
    actions, shelf = Sharing(page.studio, page.offer), page.shelf
    settings = [page.neighbors, page.k, page.order, page.grid, page.steps, page.guidance]
    settings = [*settings, page.strength, page.seed, page.new_seed]
    picture = [page.canvas, page.download, page.visit]
    outputs = [*picture, shelf, page.memory, *settings]
    given = [page.visit], [*picture, *settings]
    page.canvas.back(actions.back, *given, show_progress="hidden", **PRIVATE)
    recall = shelf.recall(actions.recall, [page.visit], outputs, **QUIET)
    restore = page.opened.upload(actions.restore, [page.visit, page.opened], outputs, **QUIET)
    for run in (recall, restore):
        run.then(None, js=telling("over"), **PRIVATE)
        run.failure(None, js=telling("failed"), **PRIVATE)
    restore.failure(None, js=telling("unopened"), **PRIVATE)
    page.stop.click(None, cancels=[recall, restore], **PRIVATE)

    film = shelf.film(actions.film, [page.visit], [shelf], **QUIET)
    sheet = shelf.sheet(actions.sheet, [page.visit], [shelf], **QUIET)
    kept = shelf.run(actions.run, [page.visit], [shelf], **QUIET)
    code = shelf.python(actions.python, [page.visit], [shelf], **QUIET)
    for run in (film, sheet, kept, code):
        run.failure(None, js=telling("unfiled"), **PRIVATE)
    shelf.quit(None, cancels=[film, sheet, kept], **PRIVATE)
