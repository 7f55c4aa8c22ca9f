"""Comparing: one picture in four ways, or with two settings against each other."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from rissole.app.assets import filled
from rissole.app.choose import hits_of
from rissole.app.frames import Throttle, data_uri
from rissole.app.labeled_sheets import labeled_grid
from rissole.app.links import encode
from rissole.app.pace import Tick
from rissole.app.page import Page
from rissole.app.painting import Painting
from rissole.app.parts import component, telling
from rissole.app.state import Visit
from rissole.app.studio import PRIVATE, QUIET, Studio
from rissole.app.variants import VARIANTS, Axis, Result, cross, run, spelled, variants
from rissole.app.zerogpu import lease, on_gpu
from rissole.config import MAX_NEIGHBORS, Recipe


class Comparing:
    """The event handlers of the comparison."""

    def __init__(self, studio: Studio):
        self.studio = studio
        self.words, self.painting = studio.words["compare"], Painting(studio)
        self.frames = on_gpu(self._lease)(self._frames)

    def ways(self, visit: Visit, *settings: Any) -> Iterator[Any]:
        """The same query and seed in four ways; yields messages to the page.

        Args:
            visit: what is remembered of the visit.
            *settings: of the page, as `Painting.wanted` takes them.
        """

        def frames() -> Iterator[Any]:
            recipes = variants(self.painting.wanted(visit, *settings))
            names = [self.words["ways"][name] for name in VARIANTS]
            yield from self.frames(visit, [list(recipes.values())], names, [""], "ways")

        yield from self._safely(frames())

    def cross(
        self,
        visit: Visit,
        neighbors: Any,
        order: Any,
        grid: Any,
        steps: Any,
        guidance: Any,
        seed: Any,
        strength: Any,
        event: gr.EventData,
    ) -> Iterator[Any]:
        """Two settings against each other, as the event says; yields as `ways` does."""

        def frames() -> Iterator[Any]:
            values = order, grid, steps, guidance, seed, strength
            recipe = self.painting.wanted(visit, neighbors, *values)
            x, y = (_axis(getattr(event, name, None)) for name in ("x", "y"))
            table = cross(recipe, x, y, self._pool(visit, neighbors))
            yield from self.frames(visit, table, self._labels(x), self._labels(y), "cross")

        yield from self._safely(frames())

    def _safely(self, messages: Iterator[Any]) -> Iterator[Any]:
        for shown in self.painting.safely(messages, 1):
            yield shown[0] if isinstance(shown, tuple) else shown

    def _labels(self, axis: Axis) -> list[str]:
        name = self.words["settings"][axis.setting]
        said = self.studio.words["settings"]["orders"] if axis.setting == "order" else {}
        return [said.get(value) or f"{name} {spelled(value)}" for value in axis.values]

    def _pool(self, visit: Visit, neighbors: Any) -> list[int]:
        """Neighbors to count from: those that are on, then what else the query finds."""
        hits = hits_of(neighbors)
        on: list[Any] = [hit.get("id") for hit in hits if hit.get("on")]
        off = {hit.get("id") for hit in hits if not hit.get("on")}
        query, pipe = visit.query.arguments(), self.studio.of(visit).pipe
        more = pipe.retrieve(**query, k=MAX_NEIGHBORS, label=visit.label).ids if query else []
        return list(dict.fromkeys((*on, *(i for i in more if i not in off))))[:MAX_NEIGHBORS]

    def _lease(self, visit: Visit, table: Sequence[Sequence[Recipe]], *labels: Any) -> int:
        return lease(self.studio.of(visit).ahead([r for row in table for r in row]).work)

    def _frames(
        self,
        visit: Visit,
        table: Sequence[Sequence[Recipe]],
        columns: Sequence[str],
        rows: Sequence[str],
        kind: str,
    ) -> Iterator[Any]:
        recipes = [recipe for row in table for recipe in row]
        here = self.studio.of(visit)
        for recipe in recipes:
            here.pipe.check(recipe)
        yield here.ahead(recipes)
        results: list[Result] = []
        message: dict[str, Any] = {"run": secrets.token_hex(8), "state": "running", "error": None}
        message |= {"kind": kind, "columns": list(columns), "rows": list(rows)}
        message |= {"count": len(recipes), "at": 0, "done": 0.0, "cells": [], "mine": here.own}
        yield message
        throttle = Throttle(5)
        with contextlib.closing(run(here.pipe, recipes)) as stages:
            for index, done, result in stages:
                message = {**message, "at": index, "done": round(done, 3)}
                if result is not None:
                    results.append(result)
                    cells = [*message["cells"], self._cell(result, visit)]
                    state = "done" if len(results) == len(recipes) else "running"
                    file = self._file(results, columns, rows)
                    message = {**message, "cells": cells, "state": state, "file": file}
                yield message if result is not None or throttle.due(0, 1) else Tick()

    def _cell(self, result: Result, visit: Visit) -> dict[str, Any]:
        return {
            "src": data_uri(result.image, 90),
            "seconds": round(result.seconds, 2),
            "calls": result.network_calls,
            "seam": None if result.seam_ratio is None else round(result.seam_ratio, 2),
            "link": encode(result.recipe, visit.query.item),
        }

    def _file(self, results: list[Result], columns: Sequence[str], rows: Sequence[str]) -> str:
        missing = len(columns) * len(rows) - len(results)
        images = [*(result.image for result in results), *[None] * missing]
        notes = [*map(self._note, results), *[""] * missing]
        title = self.words["sheetTitle"].format(seed=results[0].recipe.seed)
        wide = range(0, len(images), len(columns))
        pictures = [images[n : n + len(columns)] for n in wide]
        captions = [notes[n : n + len(columns)] for n in wide]
        image = labeled_grid(pictures, columns, rows, captions, title)
        name = f"rissole-{results[0].recipe.seed}-compare.png"
        return self.studio.png(image, results[0].recipe.to_dict(), name)

    def _note(self, result: Result) -> str:
        known = {"calls": result.network_calls, "seconds": f"{result.seconds:.1f}"}
        if result.seam_ratio is None:
            return filled(self.words["noteWhole"], **known)
        return filled(self.words["note"], **known, seam=f"{result.seam_ratio:.2f}")


def _axis(given: Any) -> Axis:
    """What the browser sent for one axis; it may be anything."""
    given = given if isinstance(given, dict) else {}
    return Axis.parse(given.get("setting"), str(given.get("values") or "")[:200])


def section(page: Page) -> None:
    """Lays out the comparison, folded."""
    with gr.Column(elem_classes="rs-card"):
        page.compare = component(
            *("compare", page.studio.words["compare"], "rs-compare", ("ways", "cross", "halt")),
            few=page.studio.pipe.denoiser.flow_map,
            bundle=page.studio.pipe.config["name"],
        )


def wire(page: Page) -> None:
    """Connects the comparison with the pipeline."""
    actions, compare = Comparing(page.studio), page.compare
    settings = [page.neighbors, page.order, page.grid, page.steps, page.guidance, page.seed]
    settings = [*settings, page.strength]
    ways = compare.ways(actions.ways, [page.visit, *settings], [compare], **QUIET)
    both = compare.cross(actions.cross, [page.visit, *settings], [compare], **QUIET)
    for event in (ways, both):
        event.failure(None, js=telling("uncompared"), **PRIVATE)
    compare.halt(None, cancels=[ways, both], **PRIVATE)
