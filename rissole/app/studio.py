"""What every part of the page does with a pipeline: check, paint, and hand out files."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from rissole.app.clip_reader import Reader
from rissole.app.databases import QUICK, Sources, seen_by, usable
from rissole.app.decoder import reader
from rissole.app.limits import Limits
from rissole.app.pace import Ahead, Steps, Tick
from rissole.app.patches import asking, calling_visit
from rissole.app.state import Picture, Visit
from rissole.app.uploads import uploaded
from rissole.config import Recipe, RissoleError, quoted
from rissole.data.images import save_png
from rissole.outputs import BlockStep
from rissole.pipeline import RissolePipeline
from rissole.retrieval.encoders import text_missing

PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # for the page, not for programs
QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}


class Studio:
    """One pipeline with the texts of the page. Keeps nothing between two events.

    Args:
        sources: the databases one can choose from.
        words: the texts of the page.
        pipe: the pipeline that retrieves and paints; the one with the first database if left out.
        key: of the database, part of the address of its thumbnails.
        limits: how much may be asked for.
        reader: the model that reads words, here or not; None where there is to be none.
    """

    def __init__(
        self,
        sources: Sources,
        words: dict[str, Any],
        pipe: RissolePipeline | None = None,
        key: str | None = None,
        limits: Limits | None = None,
        reader: Reader | None = None,
    ):
        self.reader = reader
        self.sources, self.words, self.errors = sources, words, words["errors"]
        self._pipe, self.key = pipe, key or sources.key
        self.limits = limits or Limits()

    @property
    def pipe(self) -> RissolePipeline:
        """The pipeline that retrieves and paints; the bundle's own is loaded when it is needed."""
        return self._pipe or self.sources.start

    def of(self, visit: Visit) -> Studio:
        """With the database and the encoder that a visitor chose.

        Raises:
            RissoleError: when the database is not there any more.
        """
        key = visit.source or self.sources.key
        pipe = self.sources.find(key)
        if pipe is None:
            raise RissoleError(self.errors["gone"])
        seen = seen_by(pipe, visit.encoder)
        return Studio(self.sources, self.words, seen, key, self.limits, self.reader)

    @property
    def own(self) -> bool:
        """Whether the database holds pictures that nobody but one visitor has."""
        return self.pipe.database.in_memory

    @property
    def size(self) -> str:
        """How large the networks are, in words."""
        counts = self.pipe.num_parameters()
        said = self.words["page"]["size" if counts["autoencoder"] else "sizePixels"]
        return said.format(**{name: f"{count / 1e6:.1f}" for name, count in counts.items()})

    def item(self, value: Any) -> int:
        """Checks the number of a gallery picture that came from the browser."""
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RissoleError(self.errors["item"].format(value=quoted(value)))
        return value

    def uploaded(self, path: Any) -> Path:
        """The file of a path that came from the browser or from a program.

        Raises:
            RissoleError: for anything but a file that was sent to this server.
        """
        found = uploaded(path)
        if found is None:
            raise RissoleError(self.errors["upload"])
        return found

    def query_picture(self, path: Path) -> Image.Image:
        """An uploaded file as a query."""
        return reader().square(path, self.pipe.image_size)

    def sent_picture(self, path: Any) -> Image.Image:
        """A picture that the page sent as a query; nothing of it stays on the disk.

        Raises:
            RissoleError: for anything but a picture that was sent to this server.
        """
        file = self.uploaded(path)
        try:
            return self.query_picture(file)
        finally:
            self.sources.household.disk.read_once(file)

    def query_words(self, text: Any) -> str:
        """Words as a query: the name of a class, or any where they are read without a long wait."""
        if not isinstance(text, str) or not text.strip():
            raise RissoleError(self.errors["text"])
        if self.reader is not None and self.unread(text):
            raise RissoleError(self.reader.asked(self.pipe, self.words["query"]))
        retriever, classes = self.pipe.retriever, self.pipe.database.classes
        text = text.strip()
        if retriever.named_classes(text):
            return text
        if retriever.text_encoder is None:
            known = {"value": quoted(text), "names": ", ".join(classes[:12])}
            raise RissoleError(self.errors["words"].format(**known) if classes else text_missing())
        if not any(retriever.encoders[name].reads_text for name in usable(self.pipe)):
            raise RissoleError(self.errors["encoder"])
        return text

    def prepared(self, encoder: str | None = None, text: str | None = None) -> Steps:
        """Makes the vectors that a search needs, unless they are at hand: it may take a minute.

        Args:
            encoder: what pictures are compared by; None is as in use.
            text: words to search with, if they are the query.
        """
        retriever = self.pipe.retriever
        used = retriever.encoder if encoder is None else retriever.find_encoder(encoder)
        if text is not None and retriever.text_encoder and not retriever.named_classes(text):
            used = retriever.text_encoder
        with contextlib.closing(retriever.preparing(used)) as steps:
            for _ in steps:
                yield Tick()

    def unread(self, text: Any) -> bool:
        """Whether words wait for the model that reads them, which is not here or has not looked.

        Those of too large a database are refused elsewhere.
        """
        pipe, reader = self.pipe, self.reader
        if reader is None or not isinstance(text, str) or pipe.retriever.named_classes(text):
            return False
        own = pipe.retriever.text_encoder
        if len(pipe.database) > QUICK or (own is not None and own is not reader.encoder):
            return False
        return bool(text.strip()) and not reader.ready(pipe)

    def checked(
        self,
        ids: Any,
        order: Any,
        grid: Any,
        steps: Any,
        guidance: Any,
        seed: Any,
        block_neighbors: Any = None,
        blocks: Any = (),
        init: Recipe | None = None,
        strength: Any = None,
    ) -> Recipe:
        """The recipe of these settings, every one of them checked; None is as shipped."""
        return self.pipe.recipe(
            neighbors=ids,
            block_neighbors=block_neighbors,
            order=order,
            grid=grid,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=typed(seed),
            blocks=blocks,
            init=init,
            strength=strength,
        )

    def ahead(self, recipes: Sequence[Recipe], before: Picture | None = None) -> Ahead:
        """How much there is to paint, with all that is beneath, unless that is at hand.

        Raises:
            RissoleError: when it is more than one visitor may ask for.
        """
        layers = [layer for r in recipes for layer in (r.layers if before is None else (r,))]
        return self.ahead_of(layers)

    def ahead_of(self, layers: Sequence[Recipe]) -> Ahead:
        """How much there is to paint of these alone, whatever they are painted upon.

        Raises:
            RissoleError: when it is more than one visitor may ask for.
        """
        work, most = sum(map(self.pipe.work, layers)), self.limits.work
        if work > most:
            said = self.errors["work"]
            raise RissoleError(said.format(work=f"{work:,.0f}", most=f"{most:,}"))
        return Ahead(work)

    def stream(
        self, recipe: Recipe, before: Picture | None = None
    ) -> Generator[BlockStep, None, None]:
        """Paints a recipe; `before` is the picture that it repaints, where it is at hand.

        Without, every layer beneath is painted first, and yields its steps, too.
        """
        # at hand, and but for the block the same as what the recipe's `init` paints
        output = None if before is None else before.output
        for layer in recipe.layers if before is None else (recipe,):
            with contextlib.closing(self.pipe.stream(layer, init=output)) as steps:
                for step in steps:
                    yield step
            output = step.output

    def png(
        self, image: Image.Image, recipe: dict, name: str | None = None, query: int | None = None
    ) -> str:
        """Writes a PNG with its recipe where the browser can fetch it; returns the path."""
        buffer = io.BytesIO()
        save_png(image, buffer, recipe, query)
        return self.file(buffer.getvalue(), name or f"rissole-{recipe['seed']}.png")

    def file(self, data: bytes, name: str) -> str:
        """Writes a file where the browser can fetch it; returns the path."""
        disk = self.sources.household.disk
        return str(disk.write(data, name, calling_visit(), asking()[0]))


def typed(value: Any) -> Any:
    """7 for "7", as a field of text sends it: a number of the browser would lose digits."""
    whole = isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}", value.strip())
    return int(value) if whole else value


def plain(value: Any) -> Any:
    """8 for 8.0, as JSON and sliders send it; anything else stays as it is, to be refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
