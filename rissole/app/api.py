"""The named endpoints, for programs."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from gradio.data_classes import FileData
from gradio.events import api as expose

from rissole.app.databases import Sources, usable
from rissole.app.errors import answer, clear_errors
from rissole.app.pace import Steps, Tick, answering
from rissole.app.patches import describe, let_fewer_arguments_in
from rissole.app.routes import ENDPOINTS
from rissole.app.state import Visit, beneath
from rissole.app.studio import Studio, plain, typed
from rissole.app.zerogpu import lease, on_gpu
from rissole.config import Recipe, RissoleError, quoted
from rissole.data.images import read_recipe
from rissole.outputs import GenerationOutput
from rissole.retrieval.database import Hits

LISTED = 20  # databases in a message


class Api:
    """The endpoints of some studios, one for each world; the first is meant if none is named."""

    def __init__(self, *studios: Studio):
        self.studio, self.errors = studios[0], studios[0].errors
        self._studios = {studio.sources.world.name: studio for studio in studios}
        # where a GPU is lent, it is for these alone
        self.steps, self.found = on_gpu(self._lease)(self._steps), on_gpu(20)(self._found)

    def retrieve(
        self,
        image: FileData | None = None,
        item: int | None = None,
        k: int | None = None,
        seed: int | None = None,
        database: str | None = None,
        label: str | None = None,
        encoder: str | None = None,
        text: str | None = None,
        bundle: str | None = None,
    ) -> dict:
        """Finds the nearest neighbors of a picture in a database.

        Args:
            image: a picture file as the query (PNG, JPEG, WebP, GIF, BMP or TIFF).
            item: or the number of a database picture as the query; it is not its own neighbor.
            k: how many neighbors, 1 to 16.
            seed: picks the random query when no other is given.
            database: its name as the page lists it, or its fingerprint as recipes have it.
            label: only pictures of this class of the database.
            encoder: what pictures are compared by, "latent", "latent-corner", "learned" or "clip".
            text: or words as the query.
            bundle: name of the model, one of those the page offers; the first one if left out.

        Returns:
            neighbors: {"item": query item or null, "ids": [...], "scores": cosines, best first}
        """
        where = bundle, database
        return self._retrieved(where, image, item, text, seed, k, label, encoder)

    def generate(
        self,
        neighbors: list[int] | None = None,
        item: int | None = None,
        image: FileData | None = None,
        k: int | None = None,
        order: Literal["parallel", "sequential", "independent"] | None = None,
        grid: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        database: str | None = None,
        label: str | None = None,
        encoder: str | None = None,
        text: str | None = None,
        bundle: str | None = None,
        block_neighbors: dict | None = None,
        strength: float | None = None,
    ) -> tuple[FileData, dict]:
        """Paints one picture, block by block, guided by neighbors from a database.

        Give neighbors, or a query (item, image, text) to retrieve some for, or nothing.

        Args:
            neighbors: numbers of database pictures, 1 to 16; or give a query, or nothing.
            item: number of the database picture to use as the query.
            image: picture file to use as the query.
            k: how many neighbors to retrieve for the query, 1 to 16.
            order: "parallel", "sequential" or "independent".
            grid: blocks per side, 1, 2 or 4.
            steps: denoising steps of each block, 1 to 200.
            guidance_scale: 0 to 20; 1 is off, more is clearer and less varied.
            seed: the same settings with the same seed give the same picture; random if left out.
            database: its name as the page lists it, or its fingerprint as recipes have it.
            label: only pictures of this class of the database.
            encoder: what pictures are compared by, "latent", "latent-corner", "learned" or "clip".
            text: or words as the query.
            bundle: name of the model, one of those the page offers; the first one if left out.
            block_neighbors: neighbors of single blocks by row and column, such as {"0,1": [9]}.
            strength: 0 to 4, how much those blocks follow theirs; 1 as usual.

        Returns:
            picture: PNG file with the recipe inside
            recipe: everything that determines the picture
        """
        where, query, search = (bundle, database), (image, item, text), (k, label, encoder)
        values = order, grid, steps, guidance_scale, seed, block_neighbors, (), None, strength
        return self._generated(where, neighbors, query, search, values)

    def regenerate_block(
        self,
        row: int,
        col: int,
        recipe: dict | None = None,
        image: FileData | None = None,
        neighbors: list[int] | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> tuple[FileData, dict]:
        """Paints one block of an earlier picture anew and keeps the other blocks.

        Give the picture as its recipe or as its PNG file, which carries the recipe. What is left
        out is as in that recipe, the model and the database included.

        Args:
            row: row of the block, from 0 at the top, in the grid of the picture.
            col: its column, from 0 at the left.
            recipe: the picture's recipe, as /generate and this endpoint return it.
            image: or the PNG file that one of them returned.
            neighbors: numbers of the database pictures to guide this block, 1 to 16 of them.
            steps: denoising steps of the block, 1 to 200.
            guidance_scale: 0 to 20; 1 is off, more is clearer and less varied.
            seed: the same seed gives the same block; random if left out.
            bundle: name of the model; the recipe tells it if left out.

        Returns:
            picture: PNG file with the new recipe inside
            recipe: everything that determines the new picture
        """
        with clear_errors(self.errors, answer):
            given = self._api_picture(recipe, image)
            block, last = (plain(row), plain(col)), Recipe.from_dict(given)
            # one that is not there is refused by the pipeline, which names both
            here = self._painted_by(last, bundle)
            own = [ids for r, c, ids in last.block_neighbors if (r, c) == block]
            new = here.checked(
                (own or [last.neighbors])[0] if neighbors is None else neighbors,
                last.order,
                last.grid,
                last.num_inference_steps if steps is None else steps,
                last.guidance_scale if guidance_scale is None else guidance_scale,
                seed,
                blocks=(block,),
                init=beneath(last, (block,)),
            )
            return self._api_painted(here, new)

    # -- step by step, see `pace`

    @answering
    def _retrieved(self, where: tuple, *query: Any) -> Steps:
        with clear_errors(self.errors, answer):
            hits = yield from self._api_hits(self._where(*where), *query)
            return {"item": hits.item, "ids": hits.ids, "scores": hits.scores}

    @answering
    def _generated(
        self, where: tuple, neighbors: Any, query: tuple, search: tuple, values: tuple
    ) -> Steps:
        with clear_errors(self.errors, answer):
            here = self._where(*where)
            if neighbors is None:
                hits = yield from self._api_hits(here, *query, None, *search)
                neighbors = hits.ids or [hits.item or 0]  # an only picture is its own neighbor
            else:
                self._check_unsearched(query, search[1:])
            return (yield from self._api_painted(here, here.checked(neighbors, *values)))

    @answering
    def _api_painted(self, here: Studio, recipe: Recipe) -> Steps:
        """Returns (picture, recipe)."""
        with clear_errors(self.errors, answer):
            yield here.ahead([recipe])
            for step in self.steps(_asked(here), recipe):
                if isinstance(step, GenerationOutput):
                    return FileData(path=here.png(step.images[0], step.recipe)), step.recipe
                yield step
            raise RuntimeError("the painting has ended before it was finished")

    def _where(self, bundle: Any, database: Any) -> Studio:
        """With the model and the database of these names."""
        there = self.studio if bundle is None else self._world(bundle)
        key = None if database is None else self._key(there.sources, database)
        return there.of(Visit(source=key))

    def _world(self, name: Any) -> Studio:
        """The model of that name, one of those on offer."""
        studio = self._studios.get(name) if isinstance(name, str) else None
        if studio is None:
            known = ", ".join(self._studios)
            raise RissoleError(self.errors["bundle"].format(value=quoted(name), known=known))
        return studio

    def _painted_by(self, recipe: Recipe, bundle: Any) -> Studio:
        """With the model and database of a recipe; the first where there is none: it says so."""
        studios = self._studios.values()
        made = (s for s in studios if s.sources.world.fingerprint == recipe.bundle)
        there = next(made, self.studio) if bundle is None else self._world(bundle)
        return there.of(Visit(source=there.sources.named(recipe.database)))

    def _check_unsearched(self, queries: tuple, search: tuple) -> None:
        """Neighbors that are given leave nothing to search."""
        if any(query is not None for query in queries):
            raise RissoleError(self.errors["queries"])
        if any(value is not None for value in search):
            raise RissoleError(self.errors["search"])

    def _key(self, sources: Sources, name: Any) -> str:
        """The key of a database that anybody may choose."""
        entries = sources.entries()
        menu = self.studio.words["memory"]["choice"]  # the page shows how many there are, too
        shown = {e.key: menu.format(label=e.label, count=f"{e.count:,}") for e in entries}
        found = [e.key for e in entries if name in (e.key, e.label, shown[e.key])]
        if len(found) == 1:
            return found[0]
        known = ", ".join(found or [entry.label for entry in entries[:LISTED]])
        said = self.errors["namesakes" if found else "database"]
        raise RissoleError(said.format(value=quoted(name), known=known))

    def _at(self, asked: tuple[str, str]) -> Studio:
        """What `_asked` names."""
        name, key = asked
        return self._studios[name].of(Visit(source=key))

    def _steps(self, asked: tuple, recipe: Recipe) -> Iterator[Tick | GenerationOutput]:
        """Paints in a database; all that goes in and out can be sent to a process."""
        with contextlib.closing(self._at(asked).stream(recipe)) as steps:
            for step in steps:
                output = step.output  # of each layer, and at last of the picture
                yield Tick()
        if output is not None:
            yield output

    def _lease(self, asked: tuple, recipe: Recipe) -> int:
        return lease(self._at(asked).ahead([recipe]).work)

    def _api_picture(self, recipe: Any, image: Any) -> Any:
        if (recipe is None) == (image is None):
            raise RissoleError(self.errors["picture"])
        if image is not None:
            recipe = read_recipe(self._api_path(image))
        if recipe is None:
            raise RissoleError(self.errors["recipe"])
        return recipe

    def _api_path(self, image: Any) -> Path:
        path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
        return self.studio.uploaded(path)

    def _api_hits(
        self, here: Studio, image: Any, item: Any, text: Any, seed: Any, *search: Any
    ) -> Steps:
        """What a query finds; `search` is (k, label, encoder)."""
        k, label, encoder = search
        if encoder is not None and encoder not in usable(here.pipe):
            here.pipe.retriever.find_encoder(str(encoder))
            raise RissoleError(self.errors["encoder"])
        k = here.pipe.defaults["k"] if k is None else plain(k)
        narrowed = {"k": k, "label": label, "encoder": encoder}
        if sum(query is not None for query in (image, item, text)) > 1:
            raise RissoleError(self.errors["queries"])
        words = None if text is None else here.query_words(text)
        yield from here.prepared(encoder, words)
        if item is not None:
            return here.pipe.retrieve(item=here.item(item), **narrowed)
        if image is not None:
            picture = here.query_picture(self._api_path(image))
            return self.found(_asked(here), {"image": picture, **narrowed})
        if words is not None:
            return self.found(_asked(here), {"text": words, **narrowed})
        seed = None if seed is None else Recipe.validated(neighbors=[0], seed=typed(seed)).seed
        return here.pipe.retrieve(seed=seed, **narrowed)

    def _found(self, asked: tuple, query: dict) -> Hits:
        return self._at(asked).pipe.retrieve(**query)


def _asked(studio: Studio) -> tuple[str, str]:
    """(name of the world, key of the database), which can be sent to a process."""
    return studio.sources.world.name, studio.key


def wire(studios: Sequence[Studio]) -> None:
    """Gives the endpoints their names."""
    actions = Api(*studios)
    for name in ENDPOINTS:
        endpoint = getattr(actions, name)
        expose(endpoint, api_name=name)
        describe(endpoint)
    let_fewer_arguments_in(ENDPOINTS)
