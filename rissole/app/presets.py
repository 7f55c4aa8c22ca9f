"""Settings that show something at once: one press chooses a query and paints."""

from dataclasses import dataclass
from functools import partial

import gradio as gr

from rissole.app.assets import filled
from rissole.app.choose import Choosing, most_neighbors
from rissole.app.errors import clear_errors
from rissole.app.page import Page
from rissole.app.state import Query, Visit
from rissole.app.studio import PRIVATE, QUIET


@dataclass(frozen=True)
class Preset:
    """What one preset sets; anything else is as shipped.

    Attributes:
        name: of its texts, or its own.
        seed: picks the query, the same one each time for one gallery.
        order: order of the blocks.
        k: how many neighbors; as shipped if left out.
        item: the query itself.
    """

    name: str
    seed: int = 0
    order: str = "parallel"
    k: int | None = None
    item: int | None = None


PRESETS = (
    Preset("parallel", 1),
    Preset("sequential", 2, "sequential"),
    Preset("published", 1, "independent"),
    Preset("single", 3, k=1),
)


def chosen(actions: Choosing, preset: Preset, visit: Visit) -> tuple:
    """The values of a preset: (visit, neighbors, k, order, grid, steps, guidance, strength)."""
    with clear_errors(actions.errors):
        pipe = actions.studio.of(visit).pipe
        shipped = pipe.defaults
        k = min(preset.k or shipped["k"], most_neighbors(pipe, visit.label))
        item = preset.item
        if item is None:
            item = pipe.retrieve(k=1, seed=preset.seed, label=visit.label).item
        visit, neighbors = actions.found(visit, Query(item=item), k)
    settings = shipped["grid"], shipped["num_inference_steps"], shipped["guidance_scale"], 1.0
    return visit, neighbors, k, preset.order, *settings


def offered(page: Page) -> list[tuple[str, Preset]]:
    """(what its button says, preset): those as shipped, or what the owner lets visitors begin with.

    Raises:
        RissoleError: for an example that is not in the gallery.
    """
    words = page.studio.words
    if not page.examples:
        return [(words["presets"]["names"][preset.name], preset) for preset in PRESETS]
    page.studio.pipe.database.check([item for item, _ in page.examples])
    named = [
        (item, name or filled(words["query"]["pick"], item=item)) for item, name in page.examples
    ]
    return [(name, Preset(f"example-{item}", item=item)) for item, name in named]


def section(page: Page) -> None:
    """Lays out one button for each preset."""
    said = page.studio.words["presets"]
    with gr.Row(elem_id="rs-presets"):
        gr.HTML(f"<p>{said['label']}</p>", elem_id="rs-presets-label", min_width=0, scale=0)
        page.presets = [
            gr.Button(name, size="sm", elem_id=f"rs-preset-{preset.name}")
            for name, preset in offered(page)
        ]


def wire(page: Page) -> None:
    """Each preset sets what it sets, then presses Generate."""
    actions = Choosing(page.studio)
    settings = [page.k, page.order, page.grid, page.steps, page.guidance, page.strength]
    outputs = [page.visit, page.neighbors, *settings]
    for (_, preset), button in zip(offered(page), page.presets, strict=True):
        choice = button.click(partial(chosen, actions, preset), [page.visit], outputs, **QUIET)
        choice.success(None, js="() => window.rissole.go()", **PRIVATE)
