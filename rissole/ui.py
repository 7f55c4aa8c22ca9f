"""The browser app: lays out one page and wires it to a pipeline.

Everything that thinks is elsewhere: pictures come from `pipeline`, values are checked by
`config.Recipe`, files are read by `images.load_image`, and what the page looks like and says is in
the files of `web`. The live canvas is one `gr.HTML` whose template never changes; the server sends
it small messages (`frame`), and its script draws them.
"""

import base64
import contextlib
import functools
import html
import io
import logging
import reprlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from gradio import processing_utils
from gradio.data_classes import FileData
from gradio_client.utils import is_http_url_like
from PIL import Image
from starlette.middleware import Middleware

from rissole.config import GRIDS, MAX_NEIGHBORS, ORDERS, Recipe, RissoleError
from rissole.images import load_image, read_recipe, save_png, square
from rissole.pipeline import BlockStep, GenerationOutput, RissolePipeline
from rissole.retrieval import Hits
from rissole.web import asset, texts
from rissole.web.guard import Guard, thumbnail_route, to_webp

FRAMES_PER_SECOND = 15
MAX_UPLOAD_MB = 20
QUEUE_SIZE = 64
PICTURES_KEPT = 8  # of each visit, to go back to; some 70 KB each
HEAVY = {"concurrency_id": "heavy", "concurrency_limit": 2}
QUIET = {"show_progress": "hidden", "api_visibility": "private", **HEAVY}
SLIDER_STEPS = 100  # the library and the API allow more; a slider that long is no fun to aim with
SLIDER_GUIDANCE = 6.0

log = logging.getLogger(__name__)


# ---- messages to the canvas ----------------------------------------------------------------------


class Throttle:
    """Says which steps are worth a frame: at most `rate` a second, and every block's last step.

    Args:
        rate: frames per second.
    """

    def __init__(self, rate: float = FRAMES_PER_SECOND):
        self.interval, self.last = 1 / rate, float("-inf")

    def due(self, step: int, total_steps: int) -> bool:
        """Whether step `step` (1 to `total_steps`) of a block should be shown now."""
        now = time.monotonic()
        if now - self.last < self.interval and step < total_steps:
            return False
        self.last = now
        return True


def frame(step: BlockStep, recipe: Recipe, ids: list[int], attention: np.ndarray) -> dict[str, Any]:
    """The message for one step: some 5 KB, most of it the picture so far as WebP.

    The picture and the attention are one string each, so that an update is one change.

    Args:
        step: the step.
        recipe: what is painted.
        ids: the neighbours to show.
        attention: (rows, cols, len(ids)), how much each block listens to each of them.
    """
    final = step.output is not None
    picture = step.output.images[0] if final else step.preview
    return {
        "state": "done" if final else "running",
        "grid": recipe.grid,
        "repaint": list(recipe.blocks[0]) if recipe.blocks else None,
        "used": list(step.neighbors),
        "ids": list(ids),
        "position": None if step.position is None else list(step.position),
        "index": step.index,
        "num_blocks": step.num_blocks,
        "step": step.step,
        "total_steps": step.total_steps,
        "calls": step.network_calls,
        "done": _bits(step.done),
        "active": _bits(step.active),
        "attention": _bytes(attention),
        "frame": data_uri(picture, None if final else 85),
    }


def data_uri(image: Image.Image, quality: int | None = 85) -> str:
    """A picture as a WebP data URI; `quality=None` keeps every pixel as it is."""
    return "data:image/webp;base64," + base64.b64encode(to_webp(image, quality)).decode()


def _bits(mask: np.ndarray) -> str:
    return "".join("1" if value else "0" for value in np.asarray(mask).ravel())


def _bytes(attention: np.ndarray) -> str:
    # the bars need no more than 8 bits; (rows, cols, k) in C order
    levels = np.nan_to_num(np.asarray(attention, dtype=np.float32)).clip(0, 1) * 255
    levels = np.maximum(levels.round(), levels > 0)  # 0 says: this block did not see it
    return base64.b64encode(levels.astype(np.uint8).tobytes()).decode()


# ---- pictures to repaint and to go back to -------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture of a visit.

    Attributes:
        output: what the pipeline made.
        message: the last message to the canvas, without the picture itself.
        ids: every neighbour that a block of the picture listens to.
        attention: (rows, cols, len(ids)), its shares; zero where a block does not see it.
    """

    output: GenerationOutput
    message: dict[str, Any]
    ids: list[int]
    attention: np.ndarray

    @property
    def recipe(self) -> Recipe:
        """What paints it again."""
        return Recipe.from_dict(self.output.recipe)


def _place(kept: list[Picture], event: gr.EventData) -> int:
    # the browser says which run is on show; one that was stopped was never kept, and stands last
    runs = [picture.message["run"] for picture in kept]
    shown = getattr(event, "run", None)
    return runs.index(shown) if shown in runs else len(runs)


def merged(
    before: Picture, ids: list[int], attention: np.ndarray, block: tuple[int, int]
) -> tuple[list[int], np.ndarray]:
    """The shares of a repainted block among those of the picture it was in.

    Args:
        before: the picture.
        ids: neighbours of the repaint.
        attention: (rows, cols, len(ids)), of which only `block` counts.
        block: (row, col).

    Returns:
        (neighbours that some block listens to, attention with one column for each)
    """
    every = np.array(list(dict.fromkeys((*before.ids, *ids))))
    shares = np.zeros((*attention.shape[:2], len(every)), np.float32)
    shares[..., : len(before.ids)] = before.attention
    shares[block] = 0
    shares[block][[every.tolist().index(i) for i in ids]] = attention[block]
    heard = shares.any((0, 1))
    return every[heard].tolist(), shares[..., heard]


def _shares(
    step: BlockStep, recipe: Recipe, before: Picture | None
) -> tuple[list[int], np.ndarray]:
    if before is None:
        return step.neighbors, step.attention
    return merged(before, step.neighbors, step.attention, recipe.blocks[0])


def beneath(recipe: Recipe, block: tuple[int, int]) -> Recipe:
    """What to repaint a block on: the picture, or the one before where it changed just that block.

    What was in the block has no effect on what is painted there, so that trying one block again
    and again makes no longer recipe.
    """
    return recipe.init if recipe.init is not None and recipe.blocks == (block,) else recipe


# ---- checks --------------------------------------------------------------------------------------


def one_line(error: Exception, words: dict[str, str]) -> str:
    """What a visitor reads about an error: ours as it is, any other without its details."""
    if isinstance(error, (RissoleError, gr.Error)):
        return str(getattr(error, "message", error)).replace("\n", " ")
    log.error("unexpected error", exc_info=error)
    return words["unexpected"]


@contextlib.contextmanager
def clear_errors(words: dict[str, str]) -> Iterator[None]:
    """Turns every error inside into a `gr.Error` of one clear line."""
    try:
        yield
    except Exception as error:
        line = one_line(error, words)
        raise gr.Error(line, title=words["title"], print_exception=False) from None


# ---- what the page can do ------------------------------------------------------------------------


class Actions:
    """The event handlers of the page and of the API, for one pipeline.

    Nothing is kept here between two events: what belongs to a visitor is in the page, and the
    pictures to go back to are in the session.

    Args:
        pipe: the pipeline that retrieves and paints.
        words: the texts of the page.
    """

    def __init__(self, pipe: RissolePipeline, words: dict[str, Any]):
        self.pipe, self.words, self.errors = pipe, words, words["errors"]

    # -- retrieval

    def surprise(self, k: int) -> tuple[dict, dict]:
        """A random query and its neighbours."""
        with clear_errors(self.errors):
            return self._found({}, k)

    def pick(self, k: int, event: gr.EventData) -> tuple[dict, dict]:
        """A gallery picture as the query."""
        with clear_errors(self.errors):
            return self._found({"item": self._item(getattr(event, "item", None))}, k)

    def upload(self, path: str | None, k: int) -> tuple[dict, dict]:
        """An uploaded picture as the query."""
        with clear_errors(self.errors):
            if not isinstance(path, str):
                raise RissoleError(self.errors["upload"])
            return self._found({"image": self._query_picture(path)}, k)

    def again(self, query: dict, neighbors: dict | None, k: int) -> tuple[dict, dict]:
        """The same query with another k; neighbours that were off stay off."""
        with clear_errors(self.errors):
            off = {hit.get("id") for hit in _hits(neighbors) if not hit.get("on")}
            return self._found(query or {}, k, off)

    def _found(self, query: dict, k: int, off: set | frozenset = frozenset()) -> tuple[dict, dict]:
        hits = self.pipe.retrieve(**query, k=_plain(k))
        known = query if "image" in query else {"item": hits.item}
        shown = {"image": data_uri(hits.query)} if "image" in query else known
        rows = [
            {"id": int(i), "score": round(float(score), 4), "on": i not in off}
            for i, score in zip(hits.ids, hits.scores, strict=True)
        ]
        if not any(row["on"] for row in rows):
            rows = [{**row, "on": True} for row in rows]
        return known, {"query": shown, "hits": rows}

    def _item(self, value: Any) -> int:
        value = _plain(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RissoleError(self.errors["item"].format(value=reprlib.repr(value)))
        return value

    def _query_picture(self, path: str) -> Image.Image:
        return square(load_image(path), self.pipe.image_size)

    # -- painting

    def paint(
        self,
        kept: list[Picture],
        neighbors: dict | None,
        order: str,
        grid: int,
        steps: int,
        guidance: float,
        new_seed: bool,
        seed: int | None,
    ) -> Iterator[tuple]:
        """Paints a picture; yields (canvas message, file to download, pictures kept, seed)."""

        def frames() -> Iterator[tuple]:
            used = secrets.randbelow(2**32) if new_seed or seed is None else seed
            ids = self._switched_on(neighbors)
            recipe = self._checked(ids, order, grid, steps, guidance, used)
            for shown in self._frames(recipe, kept):
                yield *shown, recipe.seed

        yield from self._safely(frames(), 4)

    def repaint(
        self,
        kept: list[Picture],
        neighbors: dict | None,
        order: str,
        steps: int,
        guidance: float,
        event: gr.EventData,
    ) -> Iterator[tuple]:
        """Repaints one block of the last picture; yields as `paint` does, but for the seed."""

        def frames() -> Iterator[tuple]:
            shown = kept[: _place(kept, event) + 1]
            if not shown:
                raise RissoleError(self.errors["repaint"])
            block = getattr(event, "row", None), getattr(event, "col", None)
            last, seed = shown[-1].recipe, secrets.randbelow(2**32)
            values = self._switched_on(neighbors), order, last.grid, steps, guidance, seed
            recipe = self._checked(*values, (block,), beneath(last, block))
            yield from self._frames(recipe, shown)

        yield from self._safely(frames(), 3)

    def back(self, kept: list[Picture], event: gr.EventData) -> tuple:
        """The picture before the one on show; returns as `paint` yields, but for the seed."""
        with clear_errors(self.errors):
            kept = kept[: _place(kept, event)]
            if not kept:
                raise RissoleError(self.errors["back"])
            image, recipe = kept[-1].output.images[0], kept[-1].output.recipe
            # a mark of its own, since a message like the one before would not be noticed
            new = {"back": secrets.token_hex(4), "kept": len(kept), "frame": data_uri(image, None)}
            return {**kept[-1].message, **new}, self._png(image, recipe), kept

    def _safely(self, frames: Iterator[tuple], width: int) -> Iterator[tuple]:
        """The frames; where they fail, the canvas says why."""
        try:
            yield from frames
        except Exception as error:
            line = one_line(error, self.errors)
            yield {"state": "error", "error": line}, *[gr.skip()] * (width - 1)
            raise gr.Error(line, title=self.errors["title"], print_exception=False) from None

    def _switched_on(self, neighbors: dict | None) -> list:
        ids = [hit.get("id") for hit in _hits(neighbors) if hit.get("on")]
        if not ids:
            raise RissoleError(self.errors["neighbors"])
        return ids

    def _frames(self, recipe: Recipe, kept: list[Picture]) -> Iterator[tuple]:
        began, throttle = time.perf_counter(), Throttle()
        run = {"run": secrets.token_hex(8), "seed": recipe.seed, "error": None, "back": None}
        before = kept[-1] if recipe.init else None
        # closing the stream at once on Stop frees the processor within a step
        with contextlib.closing(self._stream(recipe, before)) as steps:
            for step in steps:
                if step.output is None and not throttle.due(step.step, step.total_steps):
                    continue
                shares = _shares(step, recipe, before)
                seconds = round(time.perf_counter() - began, 2)
                message = {**run, "seconds": seconds, **frame(step, recipe, *shares)}
                if step.output is None:
                    yield message, gr.skip(), gr.skip()
                else:
                    yield self._finished(message, Picture(step.output, {}, *shares), kept)

    def _finished(self, message: dict, picture: Picture, kept: list[Picture]) -> tuple:
        lasting = {name: value for name, value in message.items() if name != "frame"}
        kept = [*kept, replace(picture, message=lasting)][-PICTURES_KEPT:]
        path = self._png(picture.output.images[0], picture.output.recipe)
        return {**message, "kept": len(kept)}, path, kept

    def _checked(
        self,
        ids: Any,
        order: Any,
        grid: Any,
        steps: Any,
        guidance: Any,
        seed: Any,
        blocks: Any = (),
        init: Recipe | None = None,
    ) -> Recipe:
        return Recipe.validated(
            bundle=self.pipe.fingerprint,
            database=self.pipe.database.fingerprint,
            neighbors=ids,
            order=order,
            grid=grid,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
            blocks=blocks,
            init=init,
        )

    def _stream(self, recipe: Recipe, before: Picture | None = None) -> Iterator[BlockStep]:
        settings = recipe.to_dict()
        if before is not None:  # at hand, and but for the block the same as what `init` paints
            settings["init"] = replace(before.output, recipes=[settings["init"]])
        return self.pipe.stream(**settings)

    def _png(self, image: Image.Image, recipe: dict) -> str:
        buffer = io.BytesIO()
        save_png(image, buffer, recipe)
        name = f"rissole-{recipe['seed']}.png"
        # in the library's own cache, so that its `delete_cache` clears it away
        folder = gr.utils.get_upload_folder()
        return processing_utils.save_bytes_to_cache(buffer.getvalue(), name, folder)

    # -- API

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
        order: str | None = None,
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
            guidance_scale: how strongly the neighbours guide, 0 to 20; 1 is off.
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
            for step in self._stream(recipe):
                output = step.output
            return FileData(path=self._png(output.images[0], output.recipe)), output.recipe

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
            guidance_scale: how strongly the neighbours guide, 0 to 20; 1 is off.
            seed: the same seed gives the same block; random if left out.

        Returns:
            picture: PNG file with the new recipe inside
            recipe: everything that determines the new picture
        """
        with clear_errors(self.errors):
            given = self._api_picture(recipe, image)
            block, last = (_plain(row), _plain(col)), Recipe.from_dict(given)
            own = [ids for r, c, ids in last.block_neighbors if (r, c) == block]
            new = self._checked(
                (own or [last.neighbors])[0] if neighbors is None else neighbors,
                last.order,
                last.grid,
                last.num_inference_steps if steps is None else steps,
                last.guidance_scale if guidance_scale is None else guidance_scale,
                secrets.randbelow(2**32) if seed is None else seed,
                (block,),
                beneath(last, block),
            )
            for step in self._stream(new):
                output = step.output
            return FileData(path=self._png(output.images[0], output.recipe)), output.recipe

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
        k = self.pipe.defaults["k"] if k is None else _plain(k)
        if item is not None:
            return self.pipe.retrieve(item=self._item(item), k=k)
        if image is None:
            seed = None if seed is None else Recipe.validated(neighbors=[0], seed=seed).seed
            return self.pipe.retrieve(k=k, seed=seed)
        return self.pipe.retrieve(image=self._query_picture(self._api_path(image)), k=k)

    def _api_recipe(
        self, ids: Any, order: Any, grid: Any, steps: Any, guidance: Any, seed: Any
    ) -> Recipe:
        shipped = self.pipe.defaults
        return self._checked(
            ids,
            shipped["order"] if order is None else order,
            shipped["grid"] if grid is None else grid,
            shipped["num_inference_steps"] if steps is None else steps,
            shipped["guidance_scale"] if guidance is None else guidance,
            seed,
        )


def _hits(neighbors: Any) -> list[dict]:
    # comes from the browser: anything may be in it
    hits = neighbors.get("hits") if isinstance(neighbors, dict) else None
    return [hit for hit in hits if isinstance(hit, dict)] if isinstance(hits, list) else []


def _plain(value: Any) -> Any:
    # JSON and sliders send 8.0 for 8; what is no whole number stays as it is, to be refused
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ---- the page ------------------------------------------------------------------------------------


def build(pipe: RissolePipeline) -> gr.Blocks:
    """The page for a pipeline, with its endpoints `/retrieve`, `/generate` and `/regenerate_block`.

    Serve it with `serve`, which also adds what the page needs around it.
    """
    words = texts()
    actions = Actions(pipe, words)
    with gr.Blocks(
        title=words["page"]["title"],
        analytics_enabled=False,
        delete_cache=(600, 3600),
    ) as demo:
        gr.HTML(_header(pipe, words["page"]), elem_id="rs-header")
        with gr.Row(elem_id="rs-page", equal_height=False):
            with gr.Column(elem_id="rs-choose", min_width=0):
                chosen = _choose(pipe, words)
            with gr.Column(elem_id="rs-paint", min_width=0):
                painting = _painting(pipe, words)
        own = pipe.database.folder.parent == pipe.folder  # the gallery the bundle carries
        footer = words["page"]["footerGallery" if own else "footer"]
        gr.HTML(_paragraph(footer), elem_id="rs-footer")
        _wire(demo, actions, chosen, painting)
        gr.api(actions.retrieve, api_name="retrieve", **HEAVY)
        gr.api(actions.generate, api_name="generate", **HEAVY)
        gr.api(actions.regenerate_block, api_name="regenerate_block", **HEAVY)
        _stay_local(demo, words["errors"])
    return demo.queue(max_size=QUEUE_SIZE)


def serve(
    pipe: RissolePipeline,
    host: str | None = None,
    port: int | None = None,
    **options: Any,
) -> tuple[Any, str, str]:
    """Serves the page until interrupted, or in the background with `prevent_thread_lock=True`.

    Args:
        pipe: the pipeline to serve.
        host: address to listen on; this computer only if left out.
        port: port to listen on; the first free one from 7860 if left out.
        **options: further arguments of `gr.Blocks.launch`.

    Returns:
        (the web application, its local address, its public address), as `launch` does. Stop
        it with `app.get_blocks().close()`.

    Raises:
        RissoleError: if host or port cannot be listened on.
    """
    _check_address(host, port)
    options = {**launch_options(pipe), **options}
    return build(pipe).launch(server_name=host, server_port=port or None, **options)


def _check_address(host: str | None, port: int | None) -> None:
    # the server itself would try a hundred ports before it gave up on a host that is not ours
    host, port = host or "127.0.0.1", port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "a port is from 0 to 65535"
        line = texts()["errors"]["address"].format(host=host, port=port, reason=reason)
        raise RissoleError(line) from None


def launch_options(pipe: RissolePipeline) -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: the look, the thumbnails, and nothing left ajar."""
    errors = texts()["errors"]
    guard = Middleware(
        Guard,
        limit=(MAX_UPLOAD_MB + 1) * 2**20,  # room for the form around the file
        large=errors["large"].format(limit=MAX_UPLOAD_MB),
        remote=errors["remote"],
    )
    thumbs = thumbnail_route(len(pipe.database), pipe.database.image)
    return {
        "theme": theme(),
        "head": f"<style>{asset('page.css')}{asset('canvas.css')}</style>"
        f"<script>{asset('shared.js')}</script>",
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [guard], "routes": [thumbs]},
        "allowed_paths": [],
        "max_file_size": MAX_UPLOAD_MB * 2**20,
        "state_session_capacity": 100,
        "ssr_mode": False,
        "run_history": False,
        "share": False,
        "quiet": True,
    }


def theme() -> gr.themes.Base:
    """Warm greys and one terracotta; the fonts are files of the library or of the system."""
    terracotta = gr.themes.Color(
        *("#fcf5f1", "#f9e6dc", "#f2cab6", "#e8a888", "#dc845c"),
        *("#c8643a", "#ab4f29", "#8a3e20", "#6c311b", "#542717", "#33160c"),
    )
    return gr.themes.Base(
        primary_hue=terracotta,
        secondary_hue=terracotta,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=[
            gr.themes.LocalFont("IBM Plex Sans", (400, 700)),
            "ui-sans-serif",
            "system-ui",
            "sans-serif",
        ],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", (400, 700)), "ui-monospace", "monospace"],
    ).set(
        body_background_fill="#f6f3ee",
        body_background_fill_dark="#151311",
        background_fill_primary="#fffdfa",
        background_fill_primary_dark="#1e1b19",
        background_fill_secondary="#f1ece5",
        background_fill_secondary_dark="#2a2623",
        border_color_primary="#e4ddd3",
        border_color_primary_dark="#38332f",
        body_text_color_subdued="#6e665d",
        body_text_color_subdued_dark="#a89f95",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="0px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_secondary_background_fill="*background_fill_secondary",
        button_secondary_background_fill_dark="*background_fill_secondary",
        button_secondary_background_fill_hover="*border_color_primary",
        button_secondary_background_fill_hover_dark="*border_color_primary",
        checkbox_label_background_fill="*background_fill_secondary",
        checkbox_label_background_fill_dark="*background_fill_secondary",
        checkbox_label_background_fill_hover="*border_color_primary",
        checkbox_label_background_fill_hover_dark="*border_color_primary",
        input_background_fill="*background_fill_secondary",
        input_background_fill_dark="*background_fill_secondary",
        block_label_text_weight="400",
        block_title_text_weight="400",
        block_title_text_color="*body_text_color",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )


# ---- parts of the page ---------------------------------------------------------------------------


def _component(name: str, script_words: dict, elem_id: str, **props: Any) -> gr.HTML:
    """One of our own components: a constant template, and a script that draws."""
    return gr.HTML(
        None,
        html_template=asset(f"{name}.html"),
        js_on_load=asset(f"{name}.js"),
        apply_default_css=False,
        elem_id=elem_id,
        texts=script_words,
        **props,
    )


def _source(pipe: RissolePipeline) -> dict[str, str]:
    # relative to the page; the version makes another database another address
    return {"base": "thumbs/", "version": pipe.database.fingerprint}


def _header(pipe: RissolePipeline, words: dict) -> str:
    sizes = {name: f"{count / 1e6:.1f}" for name, count in pipe.num_parameters().items()}
    label = html.escape(pipe.database.label)
    known = {"pictures": f"{len(pipe.database):,}", "label": label, **sizes}
    facts = (fact.format(**known) for fact in words["facts"])
    items = "".join(f"<li>{fact}</li>" for fact in facts)
    return f"<h1>{words['title']}</h1><p>{words['lead']}</p><ul>{items}</ul>"


def _paragraph(text: str) -> str:
    return f"<p>{text}</p>"


def _heading(number: int, text: str) -> None:
    gr.HTML(f"<h2><span>{number}</span>{text}</h2>", elem_classes="rs-heading")


def _choose(pipe: RissolePipeline, words: dict) -> dict[str, Any]:
    source, said = _source(pipe), words["query"]
    with gr.Column(elem_classes="rs-card"):
        _heading(1, said["title"])
        with gr.Row(elem_classes="rs-buttons"):
            surprise = gr.Button(said["surprise"], size="sm", elem_id="rs-surprise", min_width=0)
            # no file_types: what a file is called says little, load_image judges what is in it
            upload = gr.UploadButton(said["upload"], size="sm", elem_id="rs-upload", min_width=0)
        gallery = _component("gallery", said, "rs-gallery", source=source, count=len(pipe.database))
    with gr.Column(elem_classes="rs-card"):
        _heading(2, words["neighbors"]["title"])
        neighbors = _component(
            "neighbors", words["neighbors"], "rs-neighbors", source=source, queryTexts=said
        )
        k = gr.Slider(
            *(1, min(MAX_NEIGHBORS, len(pipe.database) - 1)),
            value=pipe.defaults["k"],
            step=1,
            label=words["neighbors"]["k"],
            elem_id="rs-k",
        )
    return {
        "surprise": surprise,
        "upload": upload,
        "gallery": gallery,
        "neighbors": neighbors,
        "k": k,
    }


def _painting(pipe: RissolePipeline, words: dict) -> dict[str, Any]:
    said = words["canvas"]
    with gr.Column(elem_classes="rs-card"):
        _heading(3, said["title"])
        canvas = _component(
            *("canvas", said, "rs-canvas"),
            source=_source(pipe),
            grid=pipe.defaults["grid"],
            size=pipe.image_size,
        )
        with gr.Row(elem_id="rs-actions"):
            generate = gr.Button(said["generate"], variant="primary", elem_id="rs-generate")
            stop = gr.Button(said["stop"], elem_id="rs-stop")
            download = gr.DownloadButton(said["download"], elem_id="rs-download")
        gr.HTML(_paragraph(said["keys"]), elem_id="rs-keys", elem_classes="rs-hint")
    settings = _settings(pipe, words["settings"])
    parts = {"canvas": canvas, "generate": generate, "stop": stop, "download": download}
    return {**parts, **settings}


def _settings(pipe: RissolePipeline, said: dict) -> dict[str, Any]:
    with gr.Column(elem_classes="rs-card", elem_id="rs-settings"):
        order = gr.Radio(
            [(said["orders"][name], name) for name in ORDERS],
            value=pipe.defaults["order"],
            label=said["order"],
            info=said["orderInfo"],
            elem_id="rs-order",
        )
        grid = gr.Radio(
            [(said["grids"][str(size)], size) for size in GRIDS],
            value=pipe.defaults["grid"],
            label=said["grid"],
            elem_id="rs-grid",
        )
        with gr.Row():
            steps, guidance = _sliders(pipe.defaults, said)
        with gr.Row():
            seed = gr.Number(
                value=0, precision=0, label=said["seed"], info=said["seedInfo"], elem_id="rs-seed"
            )
            new_seed = gr.Checkbox(value=True, label=said["random"], elem_id="rs-new-seed")
    names = {"order": order, "grid": grid, "steps": steps, "guidance": guidance}
    return {**names, "seed": seed, "new_seed": new_seed}


def _sliders(shipped: dict, said: dict) -> tuple[gr.Slider, gr.Slider]:
    steps = gr.Slider(
        *(1, SLIDER_STEPS),
        value=shipped["num_inference_steps"],
        step=1,
        label=said["steps"],
        info=said["stepsInfo"],
        elem_id="rs-steps",
    )
    guidance = gr.Slider(
        *(0, SLIDER_GUIDANCE),
        value=shipped["guidance_scale"],
        step=0.1,
        label=said["guidance"],
        info=said["guidanceInfo"],
        elem_id="rs-guidance",
    )
    return steps, guidance


def _wire(demo: gr.Blocks, actions: Actions, chosen: dict, painting: dict) -> None:
    _wire_retrieval(demo, actions, chosen)
    _wire_painting(actions, chosen["neighbors"], painting)


def _wire_retrieval(demo: gr.Blocks, actions: Actions, chosen: dict) -> None:
    query, k = gr.State({}), chosen["k"]
    found, quiet = [query, chosen["neighbors"]], QUIET
    demo.load(actions.surprise, [k], found, **quiet)
    chosen["surprise"].click(actions.surprise, [k], found, **quiet)
    chosen["gallery"].pick(actions.pick, [k], found, **quiet)
    chosen["upload"].upload(actions.upload, [chosen["upload"], k], found, **quiet)
    k.input(actions.again, [*found, k], found, trigger_mode="always_last", **quiet)


def _wire_painting(actions: Actions, neighbors: gr.HTML, painting: dict) -> None:
    canvas, kept, listens = painting["canvas"], gr.State([]), {"api_visibility": "private"}
    order, grid, steps, guidance, new_seed, seed = (
        painting[name] for name in ("order", "grid", "steps", "guidance", "new_seed", "seed")
    )
    outputs = [canvas, painting["download"], kept]
    inputs = [kept, neighbors, order, grid, steps, guidance, new_seed, seed]
    paint = painting["generate"].click(actions.paint, inputs, [*outputs, seed], **QUIET)
    inputs = [kept, neighbors, order, steps, guidance]
    repaint = canvas.repaint(actions.repaint, inputs, outputs, **QUIET)
    for run in (paint, repaint):
        run.failure(None, js="() => window.rissole.tell('failed')", **listens)
    painting["stop"].click(None, cancels=[paint, repaint], **listens)
    canvas.back(actions.back, [kept], outputs, show_progress="hidden", **listens)
    grid.change(None, [grid], js="(grid) => window.rissole.tell('grid', grid)", **listens)


def _stay_local(demo: gr.Blocks, errors: dict) -> None:
    # the library downloads any public address that is sent in place of an uploaded file
    for block in demo.blocks.values():
        fetch = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = functools.partial(_local_only, errors, fetch)


async def _local_only(errors: dict, fetch: Callable, address: Any) -> str | None:
    if is_http_url_like(address):
        raise gr.Error(errors["remote"], title=errors["title"], print_exception=False)
    return await fetch(address)
