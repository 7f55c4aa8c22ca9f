"""The browser app: lays out one page and wires it to a pipeline.

Everything that thinks is elsewhere: pictures come from `pipeline`, values are checked by
`config.Recipe`, files are read by `images.load_image`, and what the page looks like and says is in
the files of `web`. The live canvas is one `gr.HTML` whose template never changes; the server sends
it small messages (`frames`), and its script draws them. Each section of the page is a module here.
"""

from __future__ import annotations

import functools
import html
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware

from rissole.app import api, choose, compare, explain, memory, painting, presets, share
from rissole.app.assets import asset, texts
from rissole.app.databases import Sources
from rissole.app.facts import card_facts
from rissole.app.frames import Throttle
from rissole.app.guard import Guard, thumbnail_routes
from rissole.app.page import Page
from rissole.app.parts import heading, paragraph
from rissole.app.state import Visit
from rissole.app.studio import Studio
from rissole.app.theme import theme
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline
from rissole.retrieval.encoders import text_advice

__all__ = ["MAX_UPLOAD_MB", "Throttle", "build", "launch_options", "serve"]

MAX_UPLOAD_MB = 20
QUEUE_SIZE = 64
STYLES = ("page", "memory", "canvas", "share", "compare", "explain")
SCRIPTS = ("shared.js", "maps.js", "film.js", "inspector.js")  # in the order they need each other


def build(sources: Sources) -> gr.Blocks:
    """The page for a pipeline, with its endpoints `/retrieve`, `/generate` and `/regenerate_block`.

    Serve it with `serve`, which also adds what the page needs around it.
    """
    studio = Studio(sources, texts())
    words = studio.words["page"]
    options = {"title": words["title"], "analytics_enabled": False, "delete_cache": (600, 3600)}
    with gr.Blocks(**options) as demo:
        page = Page(studio, demo, gr.State(Visit()))
        gr.HTML(_header(studio), elem_id="rs-header")
        presets.section(page)
        with gr.Row(elem_id="rs-page", equal_height=False):
            with gr.Column(elem_id="rs-choose", min_width=0):
                with gr.Column(elem_classes="rs-card"):
                    heading(1, studio.words["query"]["title"])
                    memory.section(page)
                    choose.queries(page)
                with gr.Column(elem_classes="rs-card"):
                    heading(2, studio.words["neighbors"]["title"])
                    choose.nearest(page)
            with gr.Column(elem_id="rs-paint", min_width=0):
                painting.section(page)
        with gr.Column(elem_id="rs-more"):
            share.section(page)
            compare.section(page)
            explain.section(page)
        gr.HTML(_footer(studio.pipe, words), elem_id="rs-footer")
        for part in (presets, memory, choose, painting, share, compare, explain):
            part.wire(page)
        api.wire(studio)
        _stay_local(demo, studio.errors)
    return demo.queue(max_size=QUEUE_SIZE)


def serve(
    pipe: RissolePipeline,
    host: str | None = None,
    port: int | None = None,
    databases: Iterable[str | Path] = (),
    **options: Any,
) -> tuple[Any, str, str]:
    """Serves the page until interrupted, or in the background with `prevent_thread_lock=True`.

    Args:
        pipe: the pipeline to serve.
        host: address to listen on; this computer only if left out.
        port: port to listen on; the first free one from 7860 if left out.
        databases: folders of further databases for visitors to choose from.
        **options: further arguments of `gr.Blocks.launch`.

    Returns:
        (the web application, its local address, its public address), as `launch` does. Stop
        it with `app.get_blocks().close()`.

    Raises:
        RissoleError: if host or port cannot be listened on.
    """
    _check_address(host, port)
    sources = Sources(pipe, databases)
    options = {**launch_options(sources), **options}
    return build(sources).launch(server_name=host, server_port=port or None, **options)


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


def launch_options(sources: Sources) -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: the look, the thumbnails, and nothing left ajar."""
    errors = texts()["errors"]
    guard = Middleware(
        Guard,
        limit=(MAX_UPLOAD_MB + 1) * 2**20,  # room for the form around the file
        large=errors["large"].format(limit=MAX_UPLOAD_MB),
        remote=errors["remote"],
    )
    thumbs = thumbnail_routes(sources.opened)
    styles = "".join(asset(f"{name}.css") for name in STYLES)
    return {
        "theme": theme(),
        "head": f"<style>{styles}</style><script>{''.join(map(asset, SCRIPTS))}</script>",
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [guard], "routes": thumbs},
        "allowed_paths": [],
        "max_file_size": MAX_UPLOAD_MB * 2**20,
        "state_session_capacity": 100,
        "ssr_mode": False,
        "run_history": False,
        "share": False,
        "quiet": True,
    }


def _header(studio: Studio) -> str:
    words = studio.words["page"]
    keys = f'<button type="button" data-keys aria-keyshortcuts="?">{words["keys"]}</button>'
    offline = f'<p id="rs-offline" role="alert" hidden>{words["offline"]}</p>'
    lead = f"<h1>{words['title']}</h1>{keys}<p>{words['lead']}</p><ul><li>{studio.size}</li></ul>"
    return lead + offline + _key_list(studio.words["keys"])


def _key_list(said: dict) -> str:
    rows = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{does}</dd>" for key, does in said["list"])
    close = f'<button type="button" data-keys>{said["close"]}</button>'
    title = f'<h2 id="rs-keylist-title">{said["title"]}</h2>'
    body = f"<div>{title}<dl>{rows}</dl>{close}</div>"
    return f'<dialog id="rs-keylist" aria-labelledby="rs-keylist-title">{body}</dialog>'


def _footer(pipe: RissolePipeline, words: dict) -> str:
    facts = {name: html.escape(text) for name, text in card_facts(pipe).items()}
    own = pipe.database.folder.parent == pipe.folder and "label" in facts
    known = ("footerGallery" if own else "footerWeights") if "license" in facts else "footer"
    rights = paragraph(words[known].format(**facts))
    if pipe.retriever.text_encoder:
        return rights
    how = words["noText"].format(how=text_advice())
    return f'{rights}<p id="rs-no-text">{how}</p>'


def _stay_local(demo: gr.Blocks, errors: dict) -> None:
    # the library downloads any public address that is sent in place of an uploaded file
    for block in demo.blocks.values():
        fetch = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = functools.partial(_local_only, errors, fetch)


async def _local_only(errors: dict, fetch: Callable, address: Any) -> str | None:
    if is_http_url_like(address):
        raise gr.Error(errors["remote"], title=errors["title"], print_exception=False)
    return await fetch(address)
