"""Pieces that several sections of the page are made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rissole.app.assets import asset
from rissole.app.modules import modules


def component(
    name: str,
    script_words: dict,
    elem_id: str,
    events: tuple[str, ...] = (),
    value: Any = None,
    **props: Any,
) -> gr.HTML:
    """One of our own components: a constant template, and a module that draws.

    Args:
        name: of its files.
        script_words: its texts.
        elem_id: its id on the page.
        events: what it triggers, to listen to as `component.<event>(...)`.
        value: what it shows at first.
        **props: what the module knows from the beginning.
    """
    return gr.HTML(
        value,
        html_template=asset(f"{name}.html"),
        js_on_load=modules().loader(name, events),
        apply_default_css=False,
        elem_id=elem_id,
        texts=script_words,
        **props,
    )


def telling(event: str, detail: str = "null") -> str:
    """A script that tells the page's modules of an event.

    Args:
        event: one of the names in `web/shared/events.js`.
        detail: a JavaScript expression; `value` is the value of the event's first input.
    """
    return f"(value) => window.rissole.tell('{event}', {detail})"


def paragraph(text: str) -> str:
    """Text as a paragraph."""
    return f"<p>{text}</p>"


def heading(text: str) -> None:
    """The heading of a section."""
    gr.HTML(f"<h2>{text}</h2>", elem_classes="rs-heading")
