"""What the exported page shows before its model is there: the bundle's stored painting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rissole.app.choose import rows_of
from rissole.app.showcase import FILE, read_showcase
from rissole.pipeline import RissolePipeline
from rissole.storage.files import write_atomic


def write_opening(pipe: RissolePipeline, folder: Path) -> dict[str, Any] | None:
    """Writes the painting that is stored with a bundle, for `canvas/opening.js`.

    Args:
        pipe: whose bundle it is.
        folder: of the page.

    Returns:
        {address, item, seed, hits}: the file, the query, the seed of the picture, and the neighbors
        as `choose.Choosing` has them; None where the bundle has no painting that fits.
    """
    showcase = read_showcase(pipe)
    if showcase is None:
        return None
    write_atomic(folder / FILE, showcase.content)
    ids = showcase.recipe.neighbors
    near = pipe.retriever.similarity(showcase.item, ids)
    rows = rows_of(pipe, ids, dict(zip(ids, near, strict=True)))
    hits = [{**row, "on": True} for row in rows]
    return {"address": FILE, "item": showcase.item, "seed": showcase.recipe.seed, "hits": hits}
