"""How it works: the steps of the method with pictures of the current run, and the model's facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rissole.app.about import card_facts, latent_picture
from rissole.app.errors import clear_errors
from rissole.app.frames import data_uri
from rissole.app.influence import Hiding, influence
from rissole.app.pace import Ahead, Tick
from rissole.app.page import Page
from rissole.app.parts import component, telling
from rissole.app.state import Block, Visit, place
from rissole.app.studio import PRIVATE, QUIET, Studio
from rissole.app.zerogpu import lease, on_gpu
from rissole.config import Recipe, RissoleError
from rissole.retrieval.training_photos import TrainingPhotos


class Explaining:
    """The event handler of the strip; all but the latents is at hand in the browser."""

    def __init__(self, studio: Studio):
        self.studio, self.errors = studio, studio.errors
        self.latents, self.nearest = on_gpu(20)(self._query), on_gpu(20)(self._nearest)
        self.measured = on_gpu(self._lease)(self._measured)

    def look(self, visit: Visit, event: gr.EventData) -> dict[str, Any]:
        """The latents of the query, and of the picture on show if it is finished.

        Of that also the nearest picture of the database, and how near these are to each other; and
        how near it is to the photos that the network was trained on, where the bundle knows.
        """
        with clear_errors(self.errors):
            encoded = self._uri(self.latents(visit))
            told: dict[str, Any] = {
                "encoded": encoded,
                "made": None,
                "nearest": None,
                "photo": None,
            }
            shown = visit.pictures[: place(visit.pictures, event) + 1]
            if getattr(event, "run", None) and shown:
                told["made"] = self._uri(shown[-1].output.latents)
                told["nearest"] = self.nearest(visit, shown[-1].output.images[0])
                told["photo"] = self._photo(visit, shown[-1].output.latents)
            return told

    def influence(self, visit: Visit, event: gr.EventData) -> Iterator[Any]:
        """What each neighbor did to one block; yields what is known so far."""
        with clear_errors(self.errors):
            kept = visit.pictures[: place(visit.pictures, event) + 1]
            block: Any = getattr(event, "row", None), getattr(event, "col", None)
            if not kept or block not in np.ndindex(kept[-1].recipe.grid, kept[-1].recipe.grid):
                raise RissoleError(self.errors["repaint"])
            told = {"run": kept[-1].message["run"], "at": f"{block[0]},{block[1]}"}
            known: dict[str, float] = {}  # keys as JSON has them
            yield self._ahead(kept[-1].recipe, visit, block)
            yield {"influence": {**told, "levels": {}, "done": False}}
            for found in self.measured(kept[-1].recipe, visit, block):
                if isinstance(found, Tick):
                    yield found
                    continue
                item, levels = found
                known[str(item)] = round(levels, 1)
                yield {"influence": {**told, "levels": dict(known), "done": False}}
            yield {"influence": {**told, "levels": known, "done": True}}

    def _ahead(self, recipe: Recipe, visit: Visit, block: Block) -> Ahead:
        """How much there is to paint: the picture as it is, and without each in turn."""
        hiding = Hiding.of(recipe, block)
        at_hand = visit.painted(hiding.usual.init) is not None
        return self.studio.of(visit).ahead_of(hiding.layers(at_hand))

    def _lease(self, recipe: Recipe, visit: Visit, block: Block) -> int:
        return lease(self._ahead(recipe, visit, block).work)

    def _measured(
        self, recipe: Recipe, visit: Visit, block: Block
    ) -> Iterator[Tick | tuple[int, float]]:
        hiding = Hiding.of(recipe, block)
        beneath = visit.painted(hiding.usual.init)
        output = None if beneath is None else beneath.output
        yield from influence(self.studio.of(visit).pipe, hiding, block, output)

    def _query(self, visit: Visit) -> Tensor | None:
        item, image, pipe = visit.query.item, visit.query.image, self.studio.of(visit).pipe
        if item is not None:
            return torch.as_tensor(pipe.database.latents([item]))
        return None if image is None else pipe.retriever.encode(image)

    def _nearest(self, visit: Visit, image: Image.Image) -> dict[str, Any] | None:
        retriever = self.studio.of(visit).pipe.retriever
        if len(retriever.database) < 2:
            return None
        found = retriever.retrieve(image, k=1)
        usual = round(retriever.usual_nearness(), 2)
        return {"item": found.ids[0], "alike": round(found.scores[0], 2), "usual": usual}

    def _photo(self, visit: Visit, latents: Tensor) -> dict[str, Any] | None:
        pipe = self.studio.of(visit).pipe
        photos = None if pipe.folder is None else TrainingPhotos.load(pipe.folder, latents.shape[1])
        return None if photos is None else photos.told(latents)

    def _uri(self, latents: Tensor | None) -> str | None:
        return None if latents is None else data_uri(latent_picture(latents), None)


def section(page: Page) -> None:
    """Lays out the strip, folded, and the facts in view."""
    said, pipe = page.studio.words["explain"], page.studio.pipe
    facts = card_facts(pipe) | {"size": page.studio.size}
    with gr.Column(elem_classes="rs-card"):
        page.explain = component(
            *("explain", said, "rs-explain", ("influence",)),
            source=page.studio.key,
            facts=facts,
        )


def wire(page: Page) -> None:
    """Connects the strip with the pipeline."""
    actions = Explaining(page.studio)
    page.canvas.look(actions.look, [page.visit], [page.explain], **QUIET)
    measured = page.explain.influence(actions.influence, [page.visit], [page.explain], **QUIET)
    measured.failure(None, js=telling("influence"), **PRIVATE)
