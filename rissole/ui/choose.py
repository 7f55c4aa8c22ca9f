"""Choosing a query, and its neighbours."""

from dataclasses import replace
from typing import Any

import gradio as gr

from rissole.config import MAX_NEIGHBORS, RissoleError
from rissole.ui.errors import clear_errors
from rissole.ui.frames import data_uri
from rissole.ui.page import Page
from rissole.ui.parts import component, heading, source
from rissole.ui.state import Visit
from rissole.ui.studio import QUIET, Studio, plain


class Choosing:
    """The event handlers around the query."""

    def __init__(self, studio: Studio):
        self.studio, self.pipe, self.errors = studio, studio.pipe, studio.errors

    def surprise(self, visit: Visit, k: int) -> tuple[Visit, dict]:
        """A random query and its neighbours."""
        with clear_errors(self.errors):
            return self._found(visit, {}, k)

    def pick(self, visit: Visit, k: int, event: gr.EventData) -> tuple[Visit, dict]:
        """A gallery picture as the query."""
        with clear_errors(self.errors):
            return self._found(visit, {"item": self.studio.item(getattr(event, "item", None))}, k)

    def upload(self, visit: Visit, k: int, path: str | None) -> tuple[Visit, dict]:
        """An uploaded picture as the query."""
        with clear_errors(self.errors):
            if not isinstance(path, str):
                raise RissoleError(self.errors["upload"])
            return self._found(visit, {"image": self.studio.query_picture(path)}, k)

    def again(self, visit: Visit, k: int, neighbors: dict | None) -> tuple[Visit, dict]:
        """The same query with another k; neighbours that were off stay off."""
        with clear_errors(self.errors):
            off = {hit.get("id") for hit in hits_of(neighbors) if not hit.get("on")}
            return self._found(visit, visit.query, k, off)

    def _found(
        self, visit: Visit, query: dict, k: int, off: set | frozenset = frozenset()
    ) -> tuple[Visit, dict]:
        hits = self.pipe.retrieve(**query, k=plain(k))
        known = query if "image" in query else {"item": hits.item}
        shown = {"image": data_uri(hits.query)} if "image" in query else known
        rows = [
            {"id": int(i), "score": round(float(score), 4), "on": i not in off}
            for i, score in zip(hits.ids, hits.scores, strict=True)
        ]
        if not any(row["on"] for row in rows):
            rows = [{**row, "on": True} for row in rows]
        return replace(visit, query=known), {"query": shown, "hits": rows}


def hits_of(neighbors: Any) -> list[dict]:
    """The hits in the value of the neighbours; it comes from the browser, anything may be in it."""
    hits = neighbors.get("hits") if isinstance(neighbors, dict) else None
    return [hit for hit in hits if isinstance(hit, dict)] if isinstance(hits, list) else []


def section(page: Page) -> None:
    """Lays out the query and its neighbours."""
    pipe, words = page.studio.pipe, page.studio.words
    said, place = words["query"], source(pipe)
    with gr.Column(elem_classes="rs-card"):
        heading(1, said["title"])
        with gr.Row(elem_classes="rs-buttons"):
            page.surprise = gr.Button(
                said["surprise"], size="sm", elem_id="rs-surprise", min_width=0
            )
            # no file_types: what a file is called says little, load_image judges what is in it
            page.upload = gr.UploadButton(
                said["upload"], size="sm", elem_id="rs-upload", min_width=0
            )
        count = len(pipe.database)
        page.gallery = component("gallery", said, "rs-gallery", source=place, count=count)
    with gr.Column(elem_classes="rs-card"):
        heading(2, words["neighbors"]["title"])
        page.neighbors = component(
            "neighbors", words["neighbors"], "rs-neighbors", source=place, queryTexts=said
        )
        page.k = gr.Slider(
            *(1, min(MAX_NEIGHBORS, len(pipe.database) - 1)),
            value=pipe.defaults["k"],
            step=1,
            label=words["neighbors"]["k"],
            elem_id="rs-k",
        )


def wire(page: Page) -> None:
    """Connects the query and its neighbours with the pipeline."""
    actions = Choosing(page.studio)
    given, found = [page.visit, page.k], [page.visit, page.neighbors]
    page.demo.load(actions.surprise, given, found, **QUIET)
    page.surprise.click(actions.surprise, given, found, **QUIET)
    page.gallery.pick(actions.pick, given, found, **QUIET)
    page.upload.upload(actions.upload, [*given, page.upload], found, **QUIET)
    page.k.input(
        actions.again, [*given, page.neighbors], found, trigger_mode="always_last", **QUIET
    )
