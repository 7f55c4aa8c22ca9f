"""The named endpoints, for programs."""

import secrets
from collections.abc import Callable
from typing import Any, Literal

import gradio as gr
from gradio.data_classes import FileData

from rissole.config import Recipe, RissoleError
from rissole.images import read_recipe
from rissole.retrieval import Hits
from rissole.ui.errors import clear_errors
from rissole.ui.state import beneath
from rissole.ui.studio import HEAVY, Studio, plain
from rissole.zerogpu import on_gpu


class Api:
    """The endpoints of one studio."""

    def __init__(self, studio: Studio):
        self.studio, self.pipe, self.errors = studio, studio.pipe, studio.errors

    def retrieve(
        self,
        image: FileData | None = None,
        item: int | None = None,
        k: int | None = None,
        seed: int | None = None,
    ) -> dict:
        """Finds the nearest neighbours of a picture in the database.

        Args:
            image: a picture file as the query (PNG, JPEG, WebP, GIF, BMP or TIFF).
            item: or the number of a database picture as the query; it is not its own neighbour.
            k: how many neighbours, 1 to 16.
            seed: picks the random query when neither image nor item is given.

        Returns:
            neighbours: {"item": query item or null, "ids": [...], "scores": cosines, best first}
        """
        with clear_errors(self.errors):
            hits = self._api_hits(image, item, k, seed)
            return {"item": hits.item, "ids": hits.ids, "scores": hits.scores}

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
    ) -> tuple[FileData, dict]:
        """Paints one picture, block by block, guided by neighbours from the database.

        Give neighbors, or a query (item or image) whose neighbours are then retrieved, or
        nothing for a random query. What is left out is as the model was shipped.

        Args:
            neighbors: numbers of database pictures, 1 to 16 of them.
            item: number of the database picture to use as the query.
            image: picture file to use as the query.
            k: how many neighbours to retrieve for the query, 1 to 16.
            order: "parallel", "sequential" or "independent".
            grid: blocks per side, 1, 2 or 4.
            steps: denoising steps of each block, 1 to 200.
            guidance_scale: 0 to 20; 1 is off, more is clearer and less varied.
            seed: the same settings with the same seed give the same picture; random if left out.

        Returns:
            picture: PNG file with the recipe inside
            recipe: everything that determines the picture
        """
        with clear_errors(self.errors):
            if neighbors is None:
                neighbors = self._api_hits(image, item, k, None).ids
            elif item is not None or image is not None:
                raise RissoleError(self.errors["queries"])
            seed = secrets.randbelow(2**32) if seed is None else seed
            recipe = self._api_recipe(neighbors, order, grid, steps, guidance_scale, seed)
            for step in self.studio.stream(recipe):
                output = step.output
            return FileData(path=self.studio.png(output.images[0], output.recipe)), output.recipe

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
    ) -> tuple[FileData, dict]:
        """Paints one block of an earlier picture anew and keeps the other blocks.

        Give the picture as its recipe or as its PNG file, which carries the recipe. What is left
        out is as in that recipe.

        Args:
            row: row of the block, from 0 at the top, in the grid of the picture.
            col: its column, from 0 at the left.
            recipe: the picture's recipe, as /generate and this endpoint return it.
            image: or the PNG file that one of them returned.
            neighbors: numbers of the database pictures to guide this block, 1 to 16 of them.
            steps: denoising steps of the block, 1 to 200.
            guidance_scale: 0 to 20; 1 is off, more is clearer and less varied.
            seed: the same seed gives the same block; random if left out.

        Returns:
            picture: PNG file with the new recipe inside
            recipe: everything that determines the new picture
        """
        with clear_errors(self.errors):
            given = self._api_picture(recipe, image)
            block, last = (plain(row), plain(col)), Recipe.from_dict(given)
            own = [ids for r, c, ids in last.block_neighbors if (r, c) == block]
            new = self.studio.checked(
                (own or [last.neighbors])[0] if neighbors is None else neighbors,
                last.order,
                last.grid,
                last.num_inference_steps if steps is None else steps,
                last.guidance_scale if guidance_scale is None else guidance_scale,
                secrets.randbelow(2**32) if seed is None else seed,
                blocks=(block,),
                init=beneath(last, (block,)),
            )
            for step in self.studio.stream(new):
                output = step.output
            return FileData(path=self.studio.png(output.images[0], output.recipe)), output.recipe

    def _api_picture(self, recipe: Any, image: Any) -> Any:
        if (recipe is None) == (image is None):
            raise RissoleError(self.errors["picture"])
        if image is not None:
            recipe = read_recipe(self._api_path(image))
        if recipe is None:
            raise RissoleError(self.errors["recipe"])
        return recipe

    def _api_path(self, image: Any) -> str:
        path = image.get("path") if isinstance(image, dict) else getattr(image, "path", None)
        if not isinstance(path, str):
            raise RissoleError(self.errors["upload"])
        return path

    def _api_hits(self, image: Any, item: Any, k: Any, seed: Any) -> Hits:
        if image is not None and item is not None:
            raise RissoleError(self.errors["queries"])
        k = self.pipe.defaults["k"] if k is None else plain(k)
        if item is not None:
            return self.pipe.retrieve(item=self.studio.item(item), k=k)
        if image is None:
            seed = None if seed is None else Recipe.validated(neighbors=[0], seed=seed).seed
            return self.pipe.retrieve(k=k, seed=seed)
        return self.pipe.retrieve(image=self.studio.query_picture(self._api_path(image)), k=k)

    def _api_recipe(
        self, ids: Any, order: Any, grid: Any, steps: Any, guidance: Any, seed: Any
    ) -> Recipe:
        shipped = self.pipe.defaults
        return self.studio.checked(
            ids,
            shipped["order"] if order is None else order,
            shipped["grid"] if grid is None else grid,
            shipped["num_inference_steps"] if steps is None else steps,
            shipped["guidance_scale"] if guidance is None else guidance,
            seed,
        )


def wire(studio: Studio) -> None:
    """Gives the endpoints their names."""
    actions = Api(studio)
    for name in ("retrieve", "generate", "regenerate_block"):
        endpoint = getattr(actions, name)
        gr.api(on_gpu(60)(endpoint), api_name=name, **HEAVY)
        _describe(endpoint)


def _describe(endpoint: Callable) -> None:
    """Shows what the docstring says of each argument in the documentation of the API."""
    _, arguments, returns = gr.utils.get_function_description(endpoint)
    added = list(gr.context.Context.root_block.fns.values())[-1]
    names = [line.partition(": ") for line in returns if line.strip()]
    for part, name in zip(added.inputs, arguments, strict=True):
        # a capital, since some names are keys of the library's own translations
        part.label, text = name.capitalize(), arguments[name]
        part._api_info = {**part._api_info, "description": text, "additional_description": text}
    for part, (name, _, text) in zip(added.outputs, names, strict=True):
        part.label = name.capitalize()
        part._api_info = {**part._api_info, "description": text}
