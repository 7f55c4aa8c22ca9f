"""The page under construction: what its sections share."""

from __future__ import annotations

from dataclasses import dataclass, field

import gradio as gr

from rissole.app.offer import Offer
from rissole.app.showcase import Showcase
from rissole.app.studio import Studio


@dataclass(eq=False)
class Page:
    """The components that more than one section listens to or writes.

    `build` makes one, calls each section's `section(page)` in order, which lays out its part and
    puts its components here, and then each section's `wire(page)`.

    Attributes:
        studio: the pipeline with the texts.
        demo: the blocks that all of this is in.
        visit: a `state.Visit`, one for each visitor.
        showcase: what the page opens with; None where the bundle has nothing stored.
        offer: the worlds that have a page each.
        examples: (number in the gallery, name) of what an owner lets visitors begin with.
        memory: its value is what `memory.Remembering.show` returns.
        sides: only where there is more than one encoder.
        text: only where words are understood.
        reading: asks how far the model that reads them is, beside it.
        neighbors: its value is described at `choose.Choosing`.
        canvas: its value is the last message, see `frames.frame`.
    """

    studio: Studio
    demo: gr.Blocks
    visit: gr.State
    showcase: Showcase | None
    offer: Offer
    examples: tuple[tuple[int, str], ...] = ()
    presets: list[gr.Button] = field(init=False)
    surprise: gr.Button = field(init=False)
    upload: gr.UploadButton = field(init=False)
    text: gr.Textbox | None = field(init=False, default=None)
    reading: gr.Timer = field(init=False)
    memory: gr.HTML = field(init=False)
    gallery: gr.HTML = field(init=False)
    sides: gr.HTML | None = field(init=False, default=None)
    neighbors: gr.HTML = field(init=False)
    add: gr.UploadButton = field(init=False)
    k: gr.Slider = field(init=False)
    canvas: gr.HTML = field(init=False)
    generate: gr.Button = field(init=False)
    stop: gr.Button = field(init=False)
    download: gr.DownloadButton = field(init=False)
    order: gr.Radio = field(init=False)
    grid: gr.Radio = field(init=False)
    steps: gr.Slider = field(init=False)
    guidance: gr.Slider = field(init=False)
    strength: gr.Slider = field(init=False)
    seed: gr.Textbox = field(init=False)
    new_seed: gr.Checkbox = field(init=False)
    shelf: gr.HTML = field(init=False)
    opened: gr.UploadButton = field(init=False)
    compare: gr.HTML = field(init=False)
    explain: gr.HTML = field(init=False)
