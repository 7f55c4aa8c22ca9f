"""Sketches: while a visitor changes things, the picture follows in a few network calls."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from rissole.app.errors import one_line
from rissole.app.frames import Meter, frame
from rissole.app.links import encode
from rissole.app.pace import Tick
from rissole.app.page import Page
from rissole.app.state import Visit, shares_of
from rissole.app.studio import PRIVATE, QUIET, Studio, plain
from rissole.app.zerogpu import on_gpu
from rissole.config import Recipe, RissoleError
from rissole.pipeline import RissolePipeline

STEPS = 5  # of a network that needs many: who is looked at can be told from four on
FEW_STEPS = 2  # of a network that answers for whole steps: what follows the hand has to be quick
SESSIONS = 1000
SKETCH: dict[str, Any] = {"trigger_mode": "multiple", **QUIET}


def sketch_steps(pipe: RissolePipeline, wished: Any) -> int:
    """Steps of a sketch of a picture of so many: as few as still show what it will be."""
    most, wished = FEW_STEPS if pipe.denoiser.flow_map else STEPS, plain(wished)
    return min(wished, most) if isinstance(wished, int) else most


class Newest:
    """The number of the newest wish of each of the last sessions."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def note(self, session: str, number: int) -> None:
        """A wish has come, perhaps after a newer one."""
        self._numbers[session] = max(number, self._numbers.pop(session, number))
        while len(self._numbers) > SESSIONS:
            self._numbers.popitem(last=False)

    def is_newest(self, session: str, number: int) -> bool:
        """Whether no newer wish has come."""
        return self._numbers.get(session, number) <= number


class Sketching:
    """The event handler of the wishes.

    A sketch is a picture like any other, and its link paints it again; but it is not kept in the
    visit, which other events change meanwhile.
    """

    def __init__(self, studio: Studio):
        self.studio, self.errors, self.newest = studio, studio.errors, Newest()
        self.steps = on_gpu(20)(self._steps)

    def sketch(self, visit: Visit, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
        """Yields one message: the sketch, or that a newer wish has come, or what was wrong."""
        wish = getattr(event, "wish", None)
        wish = wish if isinstance(wish, dict) else {}
        number, session = wish.get("number"), str(request.session_hash)
        told = {"kind": "sketch", "wish": number}
        try:
            if type(number) is not int:
                raise RissoleError(self.errors["unexpected"])
            self.newest.note(session, number)
            with contextlib.closing(self.steps(self.recipe(visit, wish), visit)) as steps:
                for message in steps:
                    if not self.newest.is_newest(session, number):
                        yield {**told, "state": "dropped"}
                        return
                    yield {**message, **told} if isinstance(message, dict) else message
        except Exception as error:
            yield {**told, "state": "error", "error": one_line(error, self.errors)}

    def recipe(self, visit: Visit, wish: dict[str, Any]) -> Recipe:
        """The recipe of a wish, every value of it checked."""
        here = self.studio.of(visit)
        return here.checked(
            wish.get("neighbors"),
            wish.get("order"),
            wish.get("grid"),
            sketch_steps(here.pipe, wish.get("steps")),
            wish.get("guidance"),
            wish.get("seed"),
            wish.get("blocks"),
            strength=wish.get("strength"),
        )

    def _steps(self, recipe: Recipe, visit: Visit) -> Generator[Any, None, None]:
        """Ticks after each step, and at last yields the message; nothing is decoded between."""
        began, here, meter = time.perf_counter(), self.studio.of(visit), Meter(recipe.grid)
        yield here.ahead([recipe])
        with contextlib.closing(here.stream(recipe)) as steps:
            for step in meter.timed(steps):
                if step.output is None:
                    yield Tick()
                    continue
                yield {
                    **frame(step, recipe, *shares_of(step, recipe, None), lossless=False),
                    "run": secrets.token_hex(8),
                    "seed": str(recipe.seed),
                    "before": None,
                    "back": None,
                    "error": None,
                    "source": here.key,
                    "mine": here.own,
                    "seconds": round(time.perf_counter() - began, 2),
                    "spent": meter.spent,
                    "link": encode(recipe, visit.query.item),
                }


def wire(page: Page) -> None:
    """Connects the canvas with the sketches, and the settings with the page's state."""
    actions, canvas = Sketching(page.studio), page.canvas
    canvas.sketch(actions.sketch, [page.visit], [canvas], **SKETCH)
    settings: dict[str, Any] = {
        "order": page.order,
        "steps": page.steps,
        "guidance": page.guidance,
        "strength": page.strength,
        "seed": page.seed,
    }
    for name, setting in settings.items():
        known = f"(value) => window.rissole.tell('settings', {{ {name}: value }})"
        setting.change(None, [setting], js=known, **PRIVATE)
    changed = "() => setTimeout(() => window.rissole.tell('change'))"
    for setting in (page.order, page.grid, page.guidance, page.strength):  # the seed: see live.js
        setting.input(None, js=changed, **PRIVATE)
    page.k.input(None, js="() => window.rissole.tell('reseek')", **PRIVATE)
