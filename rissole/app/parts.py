"""Pieces that several sections of the page are made of."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rissole.app.assets import asset


def component(name: str, script_words: dict, elem_id: str, **props: Any) -> gr.HTML:
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


def paragraph(text: str) -> str:
    """Text as a paragraph."""
    return f"<p>{text}</p>"


def heading(number: int, text: str) -> None:
    """The numbered heading of a section."""
    gr.HTML(f"<h2><span>{number}</span>{text}</h2>", elem_classes="rs-heading")
