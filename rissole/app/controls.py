"""The settings of the next picture."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rissole.app.page import Page
from rissole.config import GRIDS, ORDERS
from rissole.pipeline import RissolePipeline

# the library and the API allow more; a slider that long is no fun to aim with
SLIDER_STEPS, SLIDER_FEW_STEPS = 100, 20
SLIDER_GUIDANCE = 6.0
SLIDER_STRENGTH = 2.0


def most_steps(pipe: RissolePipeline) -> int:
    """Where the slider ends: earlier for a network that paints in few steps."""
    return SLIDER_FEW_STEPS if pipe.denoiser.flow_map else SLIDER_STEPS


def section(page: Page) -> None:
    """Lays out the settings, each as shipped."""
    pipe, said = page.studio.pipe, page.studio.words["settings"]
    shipped, few = pipe.defaults, pipe.denoiser.flow_map
    orders = [(said["orders"][name], name) for name in ORDERS]
    grids = [(said["grids"][str(size)], size) for size in GRIDS]
    seed = 0 if page.showcase is None else page.showcase.recipe.seed
    steps, guidance = shipped["num_inference_steps"], shipped["guidance_scale"]

    def named(name: str) -> dict[str, Any]:
        return {"label": said[name], "elem_id": f"rs-{name}"}

    def told(name: str) -> dict[str, Any]:
        return {**named(name), "info": said[f"{name}Info"]}

    about_steps = {**told("steps"), **({"info": said["fewStepsInfo"]} if few else {})}

    page.order = gr.Radio(orders, value=shipped["order"], **told("order"))
    page.grid = gr.Radio(grids, value=shipped["grid"], **named("grid"))
    with gr.Row():
        page.steps = gr.Slider(1, most_steps(pipe), steps, step=1, **about_steps)
        page.guidance = gr.Slider(0, SLIDER_GUIDANCE, guidance, step=0.1, **told("guidance"))
    page.strength = gr.Slider(0, SLIDER_STRENGTH, 1, step=0.1, **told("strength"))
    with gr.Row():
        # text: a browser's numbers are whole up to 2**53, seeds up to 2**64
        page.seed = gr.Textbox(str(seed), lines=1, max_lines=1, **told("seed"))
        page.new_seed = gr.Checkbox(True, label=said["random"], elem_id="rs-new-seed")
