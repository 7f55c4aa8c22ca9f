"""Painting, watching, repainting."""

import contextlib
import secrets
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from rissole.app.choose import blocks_of, hits_of, remembered
from rissole.app.errors import one_line, toast
from rissole.app.frames import Meter, Throttle, data_uri, frame
from rissole.app.links import encode
from rissole.app.pace import Ahead, Tick
from rissole.app.page import Page
from rissole.app.parts import component, heading, telling
from rissole.app.state import PICTURES_KEPT, Picture, Visit, beneath, place, shares_of
from rissole.app.studio import PRIVATE, QUIET, Studio
from rissole.app.zerogpu import lease, on_gpu, on_zerogpu
from rissole.config import Recipe, RissoleError

EVENTS = ("repaint", "back", "more", "pick", "look", "sketch")
# a sketch is finished with its own seed; the state of the visit stays on the server
SEEDED = "(...values) => window.rissole.seeded(values)"


def opening_settings(page: Page) -> dict[str, Any]:
    """The settings that the page opens with, as its scripts know them."""
    shipped, showcase = page.studio.pipe.defaults, page.showcase
    steps, guidance = shipped["num_inference_steps"], shipped["guidance_scale"]
    seed = 0 if showcase is None else showcase.recipe.seed
    return {"order": shipped["order"], "steps": steps, "guidance": guidance, "seed": str(seed)}


def seed_first(frames: Iterator[Any], seed: int, drawn: bool = True) -> Iterator[Any]:
    """The frames, and before them all the seed, if it was drawn: a visitor may type the next one.

    Whatever comes with the last frame, the page is given again when all is over.
    """
    told = not drawn
    for shown in frames:
        if isinstance(shown, Tick | Ahead):
            yield shown
            continue
        if not told:
            yield *[gr.skip()] * len(shown), str(seed)
        told = True
        yield *shown, gr.skip()


class Painting:
    """The event handlers of the canvas."""

    def __init__(self, studio: Studio):
        self.studio, self.errors = studio, studio.errors
        # where a GPU is lent, it is for this: all that goes in and out can be sent to a process
        self.frames = on_gpu(self._lease)(self._frames)

    def paint(
        self,
        visit: Visit,
        neighbors: dict | None,
        order: str,
        grid: int,
        steps: int,
        guidance: float,
        strength: float,
        new_seed: bool,
        seed: str | None,
    ) -> Iterator[Any]:
        """Paints a picture; yields (canvas message, file to download, visit, seed)."""

        def frames() -> Iterator[Any]:
            drawn = new_seed or seed in (None, "")
            used = secrets.randbelow(2**32) if drawn else seed
            recipe = self.wanted(visit, neighbors, order, grid, steps, guidance, used, strength)
            painted = self.frames(recipe, replace(visit, neighbors=remembered(neighbors)))
            yield from seed_first(painted, recipe.seed, drawn)

        yield from self.safely(frames(), 4)

    def repaint(
        self,
        visit: Visit,
        neighbors: dict | None,
        order: str,
        steps: int,
        guidance: float,
        strength: float,
        event: gr.EventData,
    ) -> Iterator[Any]:
        """Repaints blocks of the picture on show; yields as `paint` does."""

        def frames() -> Iterator[Any]:
            kept = visit.pictures[: place(visit.pictures, event) + 1]
            if not kept:
                raise RissoleError(self.errors["repaint"])
            last, seed = kept[-1].recipe, secrets.randbelow(2**32)
            values = self._switched_on(neighbors), order, last.grid, steps, guidance, seed
            checked = self.studio.of(visit).checked
            asked = getattr(event, "blocks", None)
            blocks = checked(*values, blocks=asked, init=checked(*values)).blocks
            own = self._own(neighbors, last.grid)
            own = {at: ids for at, ids in own.items() if at in blocks}
            # the database may have got pictures of the visitor since, behind all that were there
            pipe, init = self.studio.of(visit).pipe, beneath(last, blocks)
            init = init.stamped(pipe.fingerprint, pipe.database.fingerprint)
            recipe = checked(*values, own, blocks, init, strength if own else None)
            visit_now = replace(visit, pictures=kept, neighbors=remembered(neighbors))
            yield from seed_first(self.frames(recipe, visit_now), seed)

        yield from self.safely(frames(), 4)

    def shown(self, visit: Visit) -> dict[str, Any]:
        """The message that puts the last picture of a visit on the canvas again."""
        last = visit.pictures[-1]
        return {
            **last.message,
            # a mark of its own, since a message like the one before would not be noticed
            "back": secrets.token_hex(4),
            "kept": len(visit.pictures),
            "frame": data_uri(last.output.images[0], None),
        }

    def file(self, picture: Picture) -> str:
        """Writes the PNG of a picture; returns its path."""
        output = picture.output
        return self.studio.png(output.images[0], output.recipe, query=picture.query.item)

    def safely(self, frames: Iterator[Any], width: int) -> Iterator[Any]:
        """The frames; where they fail, the canvas says why."""
        try:
            yield from frames
        except Exception as error:
            line = one_line(error, self.errors)
            yield {"state": "error", "error": line}, *[gr.skip()] * (width - 1)
            raise toast(line, self.errors) from None

    def wanted(
        self,
        visit: Visit,
        neighbors: Any,
        order: Any,
        grid: Any,
        steps: Any,
        guidance: Any,
        seed: Any,
        strength: Any = None,
    ) -> Recipe:
        """The recipe of the settings on the page, every one of them checked.

        Strength is for blocks with neighbors of their own: without any, it is as usual.
        """
        values = self._switched_on(neighbors), order, grid, steps, guidance, seed
        own = self._own(neighbors, grid)
        strength = strength if own else None
        return self.studio.of(visit).checked(*values, own, strength=strength)

    def _switched_on(self, neighbors: dict | None) -> list:
        ids = [hit.get("id") for hit in hits_of(neighbors) if hit.get("on")]
        if not ids:
            raise RissoleError(self.errors["neighbors"])
        return ids

    def _own(self, neighbors: dict | None, grid: Any) -> dict[tuple[int, int], Any]:
        """The neighbors of single blocks that lie in a grid; what they hold is checked later."""
        cells = {f"{row},{col}": (row, col) for row in range(grid) for col in range(grid)}
        own = blocks_of(neighbors)
        return {cells[at]: own[at] for at in own if at in cells}

    def _lease(self, recipe: Recipe, visit: Visit) -> int:
        before = visit.pictures[-1] if recipe.init and visit.pictures else None
        return lease(self.studio.of(visit).ahead([recipe], before).work)

    def _frames(self, recipe: Recipe, visit: Visit) -> Generator[Any, None, None]:
        """Paints a recipe; yields (canvas message, file to download, visit), and ticks."""
        began, throttle = time.perf_counter(), Throttle()
        before = visit.pictures[-1] if recipe.init else None
        meter = Meter(recipe.grid, before.message["spent"] if before else None)
        run: dict[str, Any] = {
            "run": secrets.token_hex(8),
            "seed": str(recipe.seed),
            "error": None,
            "back": None,
        }
        run["before"] = before.message["run"] if before else None
        here = self.studio.of(visit)
        yield here.ahead([recipe], before)
        run |= {"source": here.key, "mine": here.own}
        # closing the stream at once on Stop frees the processor within a step
        with contextlib.closing(here.stream(recipe, before)) as steps:
            for step in meter.timed(steps):
                if step.output is None and not throttle.due(step.step, step.total_steps):
                    yield Tick()
                    continue
                shares = shares_of(step, recipe, before)
                run |= {"seconds": round(time.perf_counter() - began, 2), "spent": meter.spent[:]}
                message = {**run, **frame(step, recipe, *shares)}
                if step.output is None:
                    yield message, gr.skip(), gr.skip()
                else:
                    asked = visit.query, visit.neighbors
                    picture = Picture(step.output, {}, *shares, *asked)
                    yield self._finished(message, picture, visit)

    def _finished(self, message: dict, picture: Picture, visit: Visit) -> tuple:
        lasting = {name: value for name, value in message.items() if name != "frame"}
        picture = replace(picture, message=lasting)
        kept = (*visit.pictures, picture)[-PICTURES_KEPT:]
        link = encode(picture.recipe, visit.query.item)
        message = {**message, "kept": len(kept), "link": link}
        return message, self.file(picture), replace(visit, pictures=kept)


def section(page: Page) -> None:
    """Lays out the canvas with its buttons."""
    pipe, said = page.studio.pipe, page.studio.words["canvas"]
    with gr.Column(elem_classes="rs-card"):
        with gr.Row(elem_id="rs-top"):
            heading(said["title"])
            with gr.Row(elem_id="rs-actions"):
                page.download = gr.DownloadButton(said["download"], elem_id="rs-download")
                page.stop = gr.Button(said["stop"], elem_id="rs-stop")
                page.generate = gr.Button(
                    said["generate"], variant="primary", elem_id="rs-generate"
                )
        page.canvas = component(
            *("canvas", said, "rs-canvas", EVENTS),
            source=page.studio.key,
            grid=pipe.defaults["grid"],
            settings=opening_settings(page),
            showcase=None if page.showcase is None else page.showcase.address,
            live=not on_zerogpu(),  # there, every sketch would borrow a GPU
            size=pipe.image_size,
        )


def wire(page: Page) -> None:
    """Connects the canvas and its buttons with the pipeline."""
    actions, canvas = Painting(page.studio), page.canvas
    outputs = [canvas, page.download, page.visit]
    settings = [page.order, page.grid, page.steps, page.guidance, page.strength]
    settings = [*settings, page.new_seed, page.seed]
    inputs = [page.visit, page.neighbors, *settings]
    paint = page.generate.click(actions.paint, inputs, [*outputs, page.seed], js=SEEDED, **QUIET)
    inputs = [page.visit, page.neighbors, page.order, page.steps, page.guidance, page.strength]
    repaint = canvas.repaint(actions.repaint, inputs, [*outputs, page.seed], **QUIET)
    for run in (paint, repaint):
        run.then(None, js=telling("over"), **PRIVATE)
        run.failure(None, js=telling("failed"), **PRIVATE)
    page.stop.click(None, cancels=[paint, repaint], **PRIVATE)
    page.grid.change(None, [page.grid], js=telling("grid", "value"), **PRIVATE)
    # a place in one grid means nothing in another; a recipe that is opened brings its own places
    page.grid.input(None, js=telling("clear"), **PRIVATE)
