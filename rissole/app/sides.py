"""Encoders side by side: what each of them finds nearest to one query."""

from __future__ import annotations

import secrets
from typing import Any

from rissole.app.choose import search
from rissole.app.databases import seen_by, usable
from rissole.app.errors import clear_errors
from rissole.app.page import Page
from rissole.app.parts import component
from rissole.app.state import Visit
from rissole.app.studio import QUIET, Studio, plain
from rissole.app.zerogpu import on_gpu


class Sides:
    """The event handler of the list."""

    def __init__(self, studio: Studio):
        self.studio, self.errors = studio, studio.errors
        self.found = on_gpu(20)(self._found)

    def sides(self, visit: Visit, k: int) -> dict[str, Any]:
        """The nearest pictures by every encoder that is at hand, the one in use first."""
        with clear_errors(self.errors):
            rows = self.found(visit, k) if visit.query.arguments() else []
            source = self.studio.of(visit).key
            return {"rows": rows, "source": source, "mark": secrets.token_hex(4)}

    def _found(self, visit: Visit, k: int) -> list[dict[str, Any]]:
        pipe, query = self.studio.of(visit).pipe, visit.query
        encoders, used = pipe.retriever.encoders, pipe.retriever.encoder.name
        names = [one for one in usable(pipe) if query.text is None or encoders[one].reads_text]
        rows = []
        for name in sorted(names, key=lambda one: one != used):
            hits = search(seen_by(pipe, name), query, plain(k), visit.label)
            scores = [round(float(score), 2) for score in hits.scores]
            near = [{"id": i, "score": s} for i, s in zip(hits.ids, scores, strict=True)]
            rows.append({"name": name, "label": encoders[name].label, "hits": near})
        return rows


def section(page: Page) -> None:
    """Lays out the list, folded; only where there is more than one encoder."""
    if len(usable(page.studio.pipe)) < 2:
        return
    page.sides = component("sides", page.studio.words["sides"], "rs-sides", ("sides",))


def wire(page: Page) -> None:
    """Connects the list with the pipeline."""
    if page.sides is None:
        return
    actions = Sides(page.studio)
    page.sides.sides(actions.sides, [page.visit, page.k], [page.sides], **QUIET)
