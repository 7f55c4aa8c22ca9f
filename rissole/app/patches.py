"""Everything in Python that reaches into parts of Gradio that it does not promise to keep.

Each says what it works around; `tests/app/test_patches.py` looks at Gradio without them, and fails
when one is no longer needed. For the browser there is `web/shared/patches.js`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.state_holder import StateHolder
from gradio_client.utils import is_http_url_like

from rissole.app.address import neighborhood
from rissole.app.errors import toast
from rissole.app.uploads import files_in, too_much, uploaded

log = logging.getLogger(__name__)

# Gradio cuts its line as soon as another page is asked for, and then says that the connection is
# lost. Until that page has answered this one is on show, and it stays when the visitor thinks
# better of it; the line of a page that has gone is cut by the browser. Who listens first decides
# whether anybody else hears of it, so this stands in the page itself.
STAY = '<script>addEventListener("beforeunload", (e) => e.stopImmediatePropagation());</script>'

UNREAD = 2000  # visits whose answers Gradio keeps until they are fetched


def keep_in(folder: Path) -> None:
    """Lets Gradio write to a folder of ours.

    It asks where to write when it is imported, and writes there when a page is laid out.
    """
    gr.routes.DEFAULT_TEMP_DIR = str(folder)  # type: ignore[attr-defined]


def stay_local(demo: gr.Blocks, errors: dict[str, str]) -> None:
    """Refuses whatever is sent in place of an uploaded file.

    Gradio would read other files that it knows of, and download any public address.
    """

    def refuse(path: Any) -> None:
        if uploaded(path) is None:
            remote = isinstance(path, str) and is_http_url_like(path)
            raise toast(errors["remote" if remote else "upload"], errors)

    def only_uploads(listener: Any, given: list) -> None:
        if too_much(given):
            raise toast(errors["sent"], errors)
        for path in files_in(given):
            refuse(path)

    _check_first(demo, only_uploads)
    for block in demo.blocks.values():
        fetch = block.async_move_resource_to_block_cache
        local = functools.partial(_local_only, errors, fetch)
        block.async_move_resource_to_block_cache = local  # type: ignore[method-assign]


async def _local_only(errors: dict[str, str], fetch: Callable, address: Any) -> str | None:
    if is_http_url_like(address):
        raise toast(errors["remote"], errors)
    # what lies in our folder stays where it is: a copy would be named by its content, one for all
    return address if uploaded(address) else await fetch(address)


def keep_visits(make: Callable[[], StateHolder]) -> None:
    """Lets the next server of Gradio keep what it knows of visits where `make` says.

    It copies what is sent into a session even of callers that have no state, and forgets the
    oldest of them all when there are many.
    """
    gr.routes.StateHolder = make  # type: ignore[attr-defined, assignment]


def calling_visit() -> str | None:
    """The visit whose event is being answered; None outside of events."""
    request = LocalContext.request.get(None)
    return None if request is None else request.session_hash


def let_fewer_arguments_in(endpoints: Collection[str]) -> None:
    """Fills in what a plain HTTP request leaves out at the end, as the client libraries do.

    Gradio refuses it, and programs that were written before an argument was added know nothing
    of it.
    """

    def fill(listener: Any, given: list) -> None:
        if listener.api_name in endpoints:
            given += [part.value for part in listener.inputs[len(given) :]]

    _check_first(_demo(), fill)


def _check_first(demo: gr.Blocks, check: Callable[[Any, list], None]) -> None:
    """Adds a check of (listener, values of its inputs) before Gradio's own."""
    own = demo.validate_inputs

    def both(listener: Any, given: list) -> None:
        check(listener, given)
        own(listener, given)

    demo.validate_inputs = both  # type: ignore[method-assign, assignment]


def asking() -> tuple[str, str | None]:
    """(address, name of the event) of the request that is being answered; see `neighborhood`.

    Gradio passes a request only to functions that name it among their arguments.
    """
    request, event = LocalContext.request.get(None), LocalContext.event_id.get(None)
    host = getattr(getattr(request, "client", None), "host", None)
    return neighborhood(host or ""), event


def say_every_error(demo: gr.Blocks, errors: dict[str, str]) -> None:
    """Says in one line whatever goes wrong before and behind our own functions.

    Gradio answers those errors with `{"error": null}`, and writes them out at length.
    """
    process = demo.process_api

    def fits(listener: Any, given: list) -> None:
        if len(given) > len(listener.inputs):  # Gradio would pass over what is too much
            raise toast(errors["values"], errors)

    _check_first(demo, fits)

    async def said(*given: Any, **named: Any) -> dict:
        try:
            return await process(*given, **named)
        except gr.Error:
            raise
        except Exception as error:  # our own functions say theirs: a value did not fit
            log.warning("%s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
            raise toast(errors["values"], errors) from None

    demo.process_api = said  # type: ignore[method-assign]


def keep_no_books(demo: gr.Blocks, full: str) -> None:
    """Spares the queue what nobody can see here: statistics, made anew after every event.

    Args:
        demo: the page, with its queue.
        full: what is said when there are more requests than the queue can hold.
    """
    queue, push = demo._queue, demo._queue.push
    queue.ANAYLTICS_CACHE_FREQUENCY, queue.ANALYTICS_MAX_EVENTS = sys.maxsize, 1

    async def said(*given: Any, **named: Any) -> tuple:
        done, answer, state = await push(*given, **named)
        return done, full if state == "queue_full" else answer, state

    queue.push = said  # type: ignore[method-assign]


def forget_unread() -> None:
    """Forgets events whose answers nobody fetched, which Gradio keeps for ever.

    It drops the answers themselves, the oldest first.
    """
    demo = LocalContext.blocks.get(None)
    queue = None if demo is None else demo._queue
    if queue is None or len(queue.pending_event_ids_session) < 2 * UNREAD:
        return
    kept = queue.pending_messages_per_session
    for session in [s for s in queue.pending_event_ids_session if s not in kept]:
        del queue.pending_event_ids_session[session]


def describe(endpoint: Callable) -> None:
    """Shows what the docstring of the last endpoint says of each argument where Gradio lists them.

    Gradio reads the docstring, and shows no more of it than the first lines.
    """
    _, arguments, returns = gr.utils.get_function_description(endpoint)
    added: Any = list(_demo().fns.values())[-1]
    names = [line.partition(": ") for line in returns if line.strip()]
    taken = inspect.signature(endpoint).parameters
    # a capital, since some names are keys of the library's own translations
    told = [(name, arguments[name]) for name in taken] + [(name, text) for name, _, text in names]
    for part, (name, text) in zip((*added.inputs, *added.outputs), told, strict=True):
        shown = {"description": text, "additional_description": text}
        part.label, part._api_info = name.capitalize(), {**part._api_info, **shown}


def _demo() -> gr.Blocks:
    """The page that is being laid out."""
    demo = gr.context.Context.root_block
    if demo is None:
        raise RuntimeError("no page is being laid out")
    return demo
