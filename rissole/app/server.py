"""The browser app: lays out one page and wires it to a pipeline.

Everything that thinks is elsewhere: pictures come from `pipeline`, values are checked by
`config.Recipe`, files are read by `images.load_image`, and what the page looks like and says is in
the files of `web`. The live canvas is one `gr.HTML` whose template never changes; the server sends
it small messages (`frames`), and its script draws them. Each section of the page is a module here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from rissole.app import (
    api,
    choose,
    compare,
    controls,
    explain,
    memory,
    painting,
    presets,
    share,
    sketches,
)
from rissole.app.address import Names, believing, listening, no_proxies
from rissole.app.assets import asset, texts
from rissole.app.databases import Sources
from rissole.app.decoder import reader
from rissole.app.frames import Throttle
from rissole.app.guard import Guard, thumbnail_routes
from rissole.app.headers import SafeHeaders
from rissole.app.household import Watched
from rissole.app.intake import upload_route
from rissole.app.limits import Limits
from rissole.app.listening import Listening
from rissole.app.margins import footer, header
from rissole.app.modules import modules
from rissole.app.pace import Pace
from rissole.app.page import Page
from rissole.app.parts import heading
from rissole.app.patches import (
    keep_in,
    keep_no_books,
    keep_visits,
    say_every_error,
    stay_local,
)
from rissole.app.routes import ENDPOINTS
from rissole.app.sessions import Sessions
from rissole.app.showcase import read_showcase, showcase_head, showcase_routes
from rissole.app.state import Visit
from rissole.app.studio import Studio
from rissole.app.theme import theme
from rissole.app.turns import Turns
from rissole.app.uploads import private_folder
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline

__all__ = ["MAX_UPLOAD_MB", "Throttle", "build", "launch_options", "serve"]

MAX_UPLOAD_MB = 20
REQUESTS = 512  # that the library holds at once; whose turn it is, `turns` decides
STYLES = ("page", "memory", "canvas", "share", "compare", "explain")


def build(sources: Sources, turns: Turns | None = None) -> gr.Blocks:
    """The page for a pipeline, with its endpoints `/retrieve`, `/generate` and `/regenerate_block`.

    Serve it with `serve`, which also adds what the page needs around it.
    """
    keep_in(private_folder())  # before the components ask where it is
    turns = turns or Turns(Limits())
    studio = Studio(sources, texts(), limits=turns.limits)
    words = studio.words["page"]
    options = {"title": words["title"], "analytics_enabled": False}
    with gr.Blocks(**options) as demo:
        page = Page(studio, demo, gr.State(Visit()), read_showcase(sources.start))
        gr.HTML(header(studio), elem_id="rs-header")
        with gr.Row(elem_id="rs-page", equal_height=False):
            with gr.Column(elem_id="rs-paint", min_width=0):
                painting.section(page)
            with gr.Column(elem_id="rs-choose", min_width=0):
                with gr.Column(elem_classes="rs-card"):
                    heading(studio.words["neighbors"]["title"])
                    choose.nearest(page)
                with gr.Column(elem_classes="rs-card"):
                    heading(studio.words["query"]["title"])
                    memory.section(page)
                    choose.queries(page)
                with gr.Column(elem_classes="rs-card", elem_id="rs-settings"):
                    heading(studio.words["settings"]["title"])
                    presets.section(page)
                    controls.section(page)
        with gr.Column(elem_id="rs-more"):
            share.section(page)
            compare.section(page)
            explain.section(page)
        gr.HTML(footer(studio.pipe, words), elem_id="rs-footer")
        for part in (presets, memory, choose, painting, sketches, share, compare, explain):
            part.wire(page)
        api.wire(studio)
        stay_local(demo, studio.errors)
    Pace(turns, studio.errors).everything(demo, ENDPOINTS, page.canvas)
    say_every_error(demo, studio.errors)
    demo.queue(max_size=REQUESTS, api_open=False)
    keep_no_books(demo, studio.errors["full"])
    return demo


def serve(
    pipe: RissolePipeline,
    host: str | None = None,
    port: int | None = None,
    databases: Iterable[str | Path] = (),
    names: Iterable[str] = (),
    limits: Limits | None = None,
    proxies: str | None = None,
    **options: Any,
) -> tuple[Any, str, str]:
    """Serves the page until interrupted, or in the background with `prevent_thread_lock=True`.

    Args:
        pipe: the pipeline to serve.
        host: address to listen on; `$GRADIO_SERVER_NAME`, else this computer only if left out.
        port: to listen on; the first free one from `$GRADIO_SERVER_PORT`, else 7860 if left out.
        databases: folders of further databases for visitors to choose from.
        names: names by which visitors may call the server beside its own, see `address.Names`.
        limits: how much visitors may ask for; see `Limits` for what it is if left out.
        proxies: whose word for the address of a visitor is taken, see `address.believing`.
        **options: further arguments of `gr.Blocks.launch`.

    Returns:
        (the web application, its local address, its public address), as `launch` does. Stop
        it with `app.get_blocks().close()`.

    Raises:
        RissoleError: if host or port cannot be listened on.
    """
    host, port = listening(host, port)
    limits = limits or Limits()
    sources, turns = Sources(pipe, databases, limits), Turns(limits)
    waits = not options.pop("prevent_thread_lock", False)
    options = {**launch_options(sources, Names(host, names), turns), **options}
    demo, host = build(sources, turns), f"[{host}]" if ":" in host else host
    sources.household.start()
    reader().begin()
    keep_visits(lambda: Sessions(sources.household.visits))
    try:
        # the library asks its own server whether it is there
        with believing(proxies), no_proxies():
            served = demo.launch(
                server_name=host, server_port=port, prevent_thread_lock=True, **options
            )
    except OSError as error:  # all the ports that it tries are taken
        raise RissoleError(str(error).partition(". ")[0]) from error
    if waits:
        demo.block_thread()
    return served


def launch_options(sources: Sources, names: Names, turns: Turns) -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: the look, the thumbnails, and nothing left ajar."""
    words, household = texts()["errors"], sources.household
    words["large"] = words["large"].format(limit=MAX_UPLOAD_MB)
    # room for the form around the file
    guard = Middleware(Guard, limit=(MAX_UPLOAD_MB + 1) * 2**20, names=names, words=words)
    watched = Middleware(Watched, household=household)
    uploads = upload_route(household.disk, MAX_UPLOAD_MB * 2**20, words)
    showcase = read_showcase(sources.start)
    routes = [*thumbnail_routes(sources.opened), *modules().routes(), uploads]
    routes += [*household.routes(), *showcase_routes(showcase)]
    styles = "".join(asset(f"{name}.css") for name in STYLES)
    streams = Middleware(Listening, turns=turns)
    layers = [Middleware(SafeHeaders, scripts=[]), guard, watched, streams]
    return {
        "theme": theme(),
        "head": f"<style>{styles}</style>{modules().head()}{showcase_head(showcase)}",
        "footer_links": ["api"],
        "app_kwargs": {"middleware": layers, "routes": routes},
        "max_threads": REQUESTS,  # places in the queue; few of them ever compute at once
        "allowed_paths": [],
        "num_workers": 0,  # their ports would have no guard
        "ssr_mode": False,
        "run_history": False,
        "share": False,
        "quiet": True,
    }
