"""What a picture costs, told before it is painted."""

from __future__ import annotations

from rissole.config import Recipe
from rissole.models.interface import BlockDenoiser
from rissole.models.scheduler import Scheduler
from rissole.sampling import network_calls

# what one evaluation costs, measured on a CPU: a fixed share for the view of the whole canvas, and
# one by the area of the windows; together 1 for the 16 windows of a 4x4 grid
FIXED, BY_AREA = 0.2, 0.2
USUAL_NEIGHBORS = 8


def work_of(recipe: Recipe, model: BlockDenoiser, scheduler: Scheduler) -> float:
    """Evaluations of the network for a recipe, without what it is painted upon, by their size.

    One evaluation of all blocks of a 4x4 grid with 8 neighbors counts as 1; fewer or smaller
    windows count less, more neighbors more.
    """
    blocks, config = len(recipe.blocks) or recipe.grid**2, model.config
    groups, together = (blocks, 1) if recipe.order == "sequential" else (1, blocks)
    steps, guidance = recipe.num_inference_steps, recipe.guidance_scale
    calls = groups * steps
    if not model.flow_map:  # which answers a guided step at once
        calls = network_calls(scheduler, steps, guidance, groups)
    window = 1 / recipe.grid + 2 * config.halo / config.latent_size
    neighbors = 0.75 + 0.25 * len(recipe.all_neighbors) / USUAL_NEIGHBORS
    led = len(led_blocks_of(recipe))  # one after another, or all in one evaluation more
    more = (led, 1) if recipe.order == "sequential" else (min(led, 1), led)
    parts = (calls, together), (more[0] * steps, more[1])
    return sum(n * (FIXED + BY_AREA * area * window**2) for n, area in parts) * neighbors


def led_blocks_of(recipe: Recipe) -> list[tuple[int, int]]:
    """The blocks of a recipe that its strength leads on, in an evaluation of their own."""
    if recipe.strength in (0, 1):
        return []
    own = [(row, col) for row, col, _ in recipe.block_neighbors]
    return [at for at in own if at in (recipe.blocks or own)]
