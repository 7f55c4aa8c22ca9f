"""What a page opens with: a painting that is stored with the bundle, and plays before any call."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rissole.app.frames import Meter, frame
from rissole.app.guard import ONE_YEAR
from rissole.app.links import encode
from rissole.app.state import shares_of
from rissole.config import Recipe, RissoleError
from rissole.loading import SHOWCASE
from rissole.pipeline import RissolePipeline
from rissole.storage.files import write_atomic
from rissole.storage.resolve import resolve
from rissole.storage.staging import amended

FILE = SHOWCASE
PICTURE = "data:image/webp;base64,"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Showcase:
    """A stored painting.

    Attributes:
        recipe: what paints it again.
        item: the query that its neighbors were found with.
        messages: to the canvas, one for each step, see `frames.frame`. The shares are in the last
            one only, which stands for all.
    """

    recipe: Recipe
    item: int
    messages: list[dict[str, Any]]

    @cached_property
    def content(self) -> bytes:
        """As it is written, and as browsers fetch it."""
        known = {"recipe": self.recipe.to_dict(), "item": self.item, "messages": self.messages}
        return json.dumps(known, separators=(",", ":")).encode()

    @property
    def address(self) -> str:
        """Where browsers find it, relative to the page; another one has another address."""
        return f"showcase/{hashlib.sha256(self.content).hexdigest()[:12]}.json"


def paint_showcase(pipe: RissolePipeline, item: int | None = None, seed: int = 0) -> Showcase:
    """Paints a picture as shipped, and keeps all that can be seen of it.

    Args:
        pipe: in float32, so that other machines paint the same.
        item: the query; a random one of this seed if left out.
        seed: of the picture.
    """
    hits = pipe.retrieve(item=item, k=pipe.defaults["k"], seed=None if item is not None else seed)
    recipe = pipe.recipe(hits, seed=seed)
    meter, messages = Meter(recipe.grid), []
    query = item if item is not None else hits.item
    if query is None:
        raise RissoleError("a showcase is painted from a picture of the database")
    for step in meter.timed(pipe.stream(recipe)):
        told = frame(step, recipe, *shares_of(step, recipe, None))
        if step.output is None:
            told["attention"] = ""
        messages.append(told)
    lasting: dict[str, Any] = {
        "run": "stored",
        "kind": "stored",
        "seed": str(recipe.seed),
        "before": None,
        "back": None,
        "error": None,
        "seconds": 0,
        "spent": [],
        "link": encode(recipe, query),
    }
    return Showcase(recipe, query, [{**message, **lasting} for message in messages])


def read_showcase(pipe: RissolePipeline) -> Showcase | None:
    """The showcase of a pipeline's bundle; None where it has none that fits what is served."""
    path = None if pipe.folder is None else pipe.folder / FILE
    if path is None or not path.is_file():
        return None
    try:
        return _checked(pipe, json.loads(path.read_bytes()))
    except (RissoleError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("the bundle's %s is left out: %s", FILE, error)
        return None


def _checked(pipe: RissolePipeline, known: dict[str, Any]) -> Showcase:
    """A showcase that may come from anybody: its pictures are pictures, its recipe fits."""
    recipe, item, messages = Recipe.from_dict(known["recipe"]), known["item"], known["messages"]
    pipe.check(recipe)
    if recipe.database != pipe.database.fingerprint:
        raise RissoleError("it was painted from another database")
    pipe.database.check([item])
    for message in messages:
        if not message["frame"].startswith(PICTURE):
            raise RissoleError("a frame is no picture")
    if not messages or messages[-1]["state"] != "done":
        raise RissoleError("it has no end")
    return Showcase(recipe, item, messages)


def add_showcase(bundle: str | Path, item: int | None = None, seed: int = 0) -> Showcase:
    """Paints the showcase of a bundle and stores it there, the bundle changing whole or not at all.

    Raises:
        RissoleError: when the bundle cannot be opened or written.
    """
    folder = resolve(bundle)
    showcase = paint_showcase(
        RissolePipeline.from_pretrained(folder, device="cpu", torch_dtype=torch.float32), item, seed
    )
    with amended(folder, FILE) as stage:
        write_atomic(stage / FILE, showcase.content)
    return showcase


def showcase_routes(showcases: Iterable[Showcase | None]) -> list[Route]:
    """What serves them."""
    known = {s.address.rpartition("/")[2]: s for s in showcases if s is not None}

    def answer(request: Request) -> Response:
        showcase = known.get(request.path_params["name"])
        if showcase is None:
            return PlainTextResponse("no such showcase", status_code=404)
        return Response(showcase.content, 200, {"Cache-Control": ONE_YEAR}, "application/json")

    return [Route("/showcase/{name}", answer)]
