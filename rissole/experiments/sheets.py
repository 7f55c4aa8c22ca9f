"""Sheets of pictures in rows."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.pipeline import RissolePipeline


def class_sheet(
    pipe: RissolePipeline, *, columns: int = 10, seed: int = 0, **settings: Any
) -> Image.Image:
    """A row of painted pictures per class of a database, each guided by pictures of that class.

    Args:
        pipe: whose database has classes.
        columns: pictures of each class, each guided by a random picture of it and its neighbors.
        seed: of the first picture; every other one has the next seed.
        settings: as for `RissolePipeline.stream`.

    Raises:
        RissoleError: when the database knows no classes.
    """
    names = pipe.database.classes
    if not names:
        raise RissoleError("the database knows no classes")
    k, rows = pipe.defaults["k"], []
    for number, name in enumerate(tqdm(names, "classes", leave=False, disable=None)):
        seeds = range(seed + number * columns, seed + (number + 1) * columns)
        found = [pipe.retrieve(label=name, k=k, seed=own) for own in seeds]
        painted = [pipe(hits, seed=own, **settings) for hits, own in zip(found, seeds, strict=True)]
        rows.append([output.images[0] for output in painted])
    return labeled_sheet(names, rows, 90)


def labeled_sheet(names: list[str], rows: list[list[Image.Image]], label: int) -> Image.Image:
    """Rows of pictures behind their names; small pictures are enlarged by whole pixels."""
    times = max(1, 64 // rows[0][0].width)
    size = times * rows[0][0].width
    width, step = label + len(rows[0]) * (size + 2), size + 2
    sheet = Image.new("RGB", (width, len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (name, row) in enumerate(zip(names, rows, strict=True)):
        draw.text((6, r * step + size // 2 - 6), name, fill="black")
        for c, picture in enumerate(row):
            large = picture.resize((size, size), Image.Resampling.NEAREST)
            sheet.paste(large, (label + c * step, r * step))
    return sheet
