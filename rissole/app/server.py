"""The browser app: lays out one page and wires it to a pipeline.

Everything that thinks is elsewhere: pictures come from `pipeline`, values are checked by
`config.Recipe`, files are read by `images.load_image`, and what the page looks like and says is in
the files of `web`. The live canvas is one `gr.HTML` whose template never changes; the server sends
it small messages (`frames`), and its script draws them. Each section of the page is a module here.
"""

from __future__ import annotations

import html
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
    sides,
    sketches,
)
from rissole.app.address import Names, believing, listening, no_proxies
from rissole.app.assets import asset, texts
from rissole.app.clip_reader import Reader
from rissole.app.databases import Sources
from rissole.app.decoder import reader
from rissole.app.face import AS_SHIPPED, Face
from rissole.app.frames import Throttle
from rissole.app.front import FAVICON, Fronts
from rissole.app.guard import Guard, thumbnail_routes
from rissole.app.headers import SafeHeaders
from rissole.app.household import Household, Watched
from rissole.app.intake import upload_route
from rissole.app.limits import Limits
from rissole.app.listening import Listening
from rissole.app.margins import footer, header
from rissole.app.modules import modules
from rissole.app.offer import Offer, Signposts, menu
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
from rissole.app.showcase import showcase_routes
from rissole.app.state import Visit
from rissole.app.studio import Studio
from rissole.app.theme import theme
from rissole.app.turns import Turns
from rissole.app.uploads import private_folder
from rissole.app.worlds import World
from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline

__all__ = ["MAX_UPLOAD_MB", "Throttle", "build", "launch_options", "serve"]

MAX_UPLOAD_MB = 20
REQUESTS = 512  # that the library holds at once; whose turn it is, `turns` decides
STYLES = ("page", "memory", "canvas", "share", "compare", "explain", "sides")


def build(
    sources: Sources,
    turns: Turns | None = None,
    others: Iterable[Sources] = (),
    clip: Reader | None = None,
    face: Face = AS_SHIPPED,
) -> gr.Blocks:
    """The pages for some worlds, with endpoints `/retrieve`, `/generate` and `/regenerate_block`.

    Serve them with `serve`, which also adds what they need around them.

    Args:
        sources: of the world that opens first.
        turns: whose turn it is, in all of them.
        others: of further worlds.
        clip: the model that reads words, fetched when it is needed; None for none.
        face: what the pages say.
    """
    return _laid_out(Offer([sources, *others]), turns or Turns(Limits()), clip, face)


def _laid_out(offer: Offer, turns: Turns, clip: Reader | None, face: Face) -> gr.Blocks:
    keep_in(private_folder())  # before the components ask where it is
    words = face.told(texts())
    how: dict[str, Any] = {"limits": turns.limits, "reader": clip}
    studios = [Studio(place.sources, words, **how) for place in offer]
    options: dict[str, Any] = {
        "title": html.unescape(words["page"]["title"]),
        "analytics_enabled": False,
    }
    with gr.Blocks(**options) as demo:
        pages = [_page(studios[0], demo, offer, face.examples)]
        api.wire(studios)
    for studio, place in zip(studios[1:], list(offer)[1:], strict=True):
        with demo.route(place.name, place.path, show_in_navbar=False):
            pages.append(_page(studio, demo, offer))
    stay_local(demo, words["errors"])
    canvases = [page.canvas for page in pages]
    Pace(turns, words["errors"]).everything(demo, ENDPOINTS, canvases)
    say_every_error(demo, words["errors"])
    demo.queue(max_size=REQUESTS, api_open=False)
    keep_no_books(demo, words["errors"]["full"])
    return demo


def _page(
    studio: Studio, demo: gr.Blocks, offer: Offer, examples: tuple[tuple[int, str], ...] = ()
) -> Page:
    """Lays out the page of one world, and wires it."""
    words, place = studio.words["page"], next(p for p in offer if p.sources is studio.sources)
    page = Page(studio, demo, gr.State(Visit()), place.showcase, offer, examples)
    gr.HTML(header(studio, menu(offer, place, words["worlds"])), elem_id="rs-header")
    with gr.Row(elem_id="rs-page", equal_height=False):
        with gr.Column(elem_id="rs-paint", min_width=0):
            painting.section(page)
        with gr.Column(elem_id="rs-choose", min_width=0):
            with gr.Column(elem_classes="rs-card"):
                heading(studio.words["neighbors"]["title"])
                choose.nearest(page)
                sides.section(page)
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
    gr.HTML(footer(studio.pipe, words, studio.reader is not None), elem_id="rs-footer")
    for part in (presets, memory, choose, painting, sides, sketches, share, compare, explain):
        part.wire(page)
    return page


def serve(
    model: RissolePipeline | World,
    host: str | None = None,
    port: int | None = None,
    databases: Iterable[str | Path] = (),
    names: Iterable[str] = (),
    limits: Limits | None = None,
    others: Iterable[World] = (),
    clip: Reader | None = None,
    face: Face = AS_SHIPPED,
    **options: Any,
) -> tuple[Any, str, str]:
    """Serves the page until interrupted, or in the background with `prevent_thread_lock=True`.

    Args:
        model: the pipeline to serve, or a world that has it.
        host: to listen on; `$GRADIO_SERVER_NAME`, else this computer only.
        port: to listen on; the first free one from `$GRADIO_SERVER_PORT`, else from 7860.
        databases: folders of further databases for visitors to choose from.
        names: by which visitors may call the server beside its own, see `address.Names`.
        limits: how much visitors may ask for; see `Limits`.
        others: further worlds, with a page each.
        clip: the model that reads words, fetched when it is needed; None for none.
        face: what the pages say.
        **options: further arguments of `gr.Blocks.launch`.

    Returns:
        (the web application, its local address, its public address), as `launch` does.

    Raises:
        RissoleError: if they cannot be listened on.
    """
    host, port = listening(host, port)
    waits, turns = not options.pop("prevent_thread_lock", False), Turns(limits or Limits())
    folders, household = list(databases), Household(turns.limits)
    offer = Offer([Sources(each, folders, household) for each in (model, *others)])
    options = {**launch_options(offer, household, Names(host, names), turns, face), **options}
    demo, host = _laid_out(offer, turns, clip, face), f"[{host}]" if ":" in host else host
    household.start()
    reader().begin()
    keep_visits(lambda: Sessions(household.visits))
    try:
        with believing(), no_proxies():  # the library asks its own server whether it is there
            served = demo.launch(server_name=host, server_port=port, **options)
    except OSError as error:  # all the ports that it tries are taken
        raise RissoleError(str(error).partition(". ")[0]) from error
    if waits:
        demo.block_thread()
    return served


def launch_options(
    offer: Offer, household: Household, names: Names, turns: Turns, face: Face
) -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: the look, the thumbnails, and nothing left ajar."""
    said, pages = face.told(texts()), frozenset(f"/{name}" for name in offer.names)
    words, fronts = said["errors"], Fronts(said["page"], offer)
    words["large"] = words["large"].format(limit=MAX_UPLOAD_MB)
    # room for the form around the file
    guard = Middleware(
        Guard, limit=(MAX_UPLOAD_MB + 1) * 2**20, names=names, words=words, pages=pages
    )
    watched = Middleware(Watched, household=household)
    uploads = upload_route(household.disk, MAX_UPLOAD_MB * 2**20, words)
    routes = [*thumbnail_routes(offer.opened), *modules().routes(), uploads]
    routes += [*household.routes(), *showcase_routes(place.showcase for place in offer)]
    routes += fronts.routes()
    styles = "".join(asset(f"{name}.css") for name in STYLES)
    streams = Middleware(Listening, turns=turns)
    signs = Middleware(Signposts, offer=offer)
    safe = Middleware(SafeHeaders, sites=face.frames, faced=fronts.faced)
    layers = [safe, guard, signs, watched, streams]
    return {
        "theme": theme(),
        "head": f"<style>{styles}</style>{modules().head()}",
        "favicon_path": FAVICON,
        "footer_links": ["api"],
        "app_kwargs": {"middleware": layers, "routes": routes},
        "max_threads": REQUESTS,  # places in the queue; few of them ever compute at once
        "allowed_paths": [],
        "num_workers": 0,  # their ports would have no guard
        "ssr_mode": False,
        "run_history": False,
        "share": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "_frontend": False,  # it would not wait for its own page as long as a busy machine takes
    }
