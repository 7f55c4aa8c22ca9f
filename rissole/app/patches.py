"""Everything in Python that reaches into parts of Gradio that it does not promise to keep.

Each says what it works around; `tests/app/test_patches.py` looks at Gradio without them, and fails
when one is no longer needed. For the browser there is `web/shared/patches.js`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.state_holder import StateHolder
from gradio_client.utils import is_http_url_like

from rissole.app.errors import toast
from rissole.app.uploads import files_in, too_much, uploaded


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
    request = gr.context.LocalContext.request.get(None)
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
