"""The settings of the next picture."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rissole.app.page import Page
from rissole.config import GRIDS, ORDERS

SLIDER_STEPS = 100  # the library and the API allow more; a slider that long is no fun to aim with
SLIDER_GUIDANCE = 6.0
SLIDER_STRENGTH = 2.0


def section(page: Page) -> None:
    """Lays out the settings, each as shipped."""
    shipped, said = page.studio.pipe.defaults, page.studio.words["settings"]
    orders = [(said["orders"][name], name) for name in ORDERS]
    grids = [(said["grids"][str(size)], size) for size in GRIDS]
    seed = 0 if page.showcase is None else page.showcase.recipe.seed
    steps, guidance = shipped["num_inference_steps"], shipped["guidance_scale"]

    def named(name: str) -> dict[str, Any]:
        return {"label": said[name], "elem_id": f"rs-{name}"}

    def told(name: str) -> dict[str, Any]:
        return {**named(name), "info": said[f"{name}Info"]}

    page.order = gr.Radio(orders, value=shipped["order"], **told("order"))
    page.grid = gr.Radio(grids, value=shipped["grid"], **named("grid"))
    with gr.Row():
        page.steps = gr.Slider(1, SLIDER_STEPS, steps, step=1, **told("steps"))
        page.guidance = gr.Slider(0, SLIDER_GUIDANCE, guidance, step=0.1, **told("guidance"))
    page.strength = gr.Slider(0, SLIDER_STRENGTH, 1, step=0.1, **told("strength"))
    with gr.Row():
        # text: a browser's numbers are whole up to 2**53, seeds up to 2**64
        page.seed = gr.Textbox(str(seed), lines=1, max_lines=1, **told("seed"))
        page.new_seed = gr.Checkbox(True, label=said["random"], elem_id="rs-new-seed")
