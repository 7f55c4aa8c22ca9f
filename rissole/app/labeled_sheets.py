"""Pictures on one sheet, with labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, SOFT, PAPER, LINE = "#1f1b18", "#6e665d", "#fffdfa", "#c8643a"
GAP = 8


def labeled_grid(
    pictures: Sequence[Sequence[Image.Image | None]],
    columns: Sequence[str],
    rows: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    title: str = "",
    size: int = 160,
) -> Image.Image:
    """Pictures in rows and columns with a label on every row and column.

    Args:
        pictures: by row; None leaves a place empty.
        columns, rows: their labels; empty ones take no room beyond a margin.
        captions: a line under each picture.
        title: a line above all.
        size: side of each picture in pixels.
    """
    left = 2 * GAP + max((_width(text) for text in rows), default=0)
    top = GAP + (28 if title else 0) + (24 if any(columns) else 0)
    step_y = size + GAP + (20 if captions else 0)
    width = max(left + len(columns) * (size + GAP), _width(title, 16) + 2 * GAP)
    sheet = Image.new("RGB", (width, top + len(rows) * step_y + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, _font(16))
    for row, line in enumerate(pictures):
        y = top + row * step_y
        draw.text((GAP, y + size // 2), rows[row], INK, _font(), anchor="lm")
        for column, picture in enumerate(line):
            x = left + column * (size + GAP)
            if row == 0:
                draw.text((x + size // 2, top - 8), columns[column], INK, _font(), anchor="ms")
            if picture is not None:
                sheet.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (x, y))
            if captions:
                draw.text((x, y + size + 3), captions[row][column], SOFT, _font(12))
    return sheet


def block_sheet(
    image: Image.Image,
    ids: Sequence[int],
    attention: np.ndarray,
    picture: Callable[[int], Image.Image],
    title: str = "",
    tile: int = 56,
) -> Image.Image:
    """A picture, and each of its blocks beside the blocks that it listened to, the most first.

    Args:
        image: the picture.
        ids: neighbors, the columns of `attention`.
        attention: (rows, cols, len(ids)); zero where a block did not see a neighbor.
        picture: gives the picture of a database id.
        title: a line above all.
        tile: side of a block on the sheet in pixels.
    """
    grid, side = len(attention), 4 * tile
    heard = {at: _heard(ids, attention[at]) for at in np.ndindex(grid, grid)}
    most = max(map(len, heard.values()), default=0)
    top, left, high = GAP + (28 if title else 0), side + 4 * GAP, tile + 20
    width = max(left + 44 + (1 + most) * (tile + GAP) + GAP, _width(title, 16) + 2 * GAP)
    whole = -(-len(ids) // 2) * (2 * tile + 20)  # the neighbors, two in a row
    height = top + max(side + GAP + whole, grid * grid * (high + GAP)) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, _font(16))
    sheet.paste(_ruled(image.resize((side, side), Image.Resampling.LANCZOS), grid), (GAP, top))
    known = {item: picture(item) for item in ids}
    for number, (item, other) in enumerate(known.items()):
        x = GAP + number % 2 * 2 * tile
        y = top + side + GAP + number // 2 * (2 * tile + 20)
        sheet.paste(other.resize((2 * tile - 4,) * 2, Image.Resampling.LANCZOS), (x, y))
        draw.text((x, y + 2 * tile - 2), str(item), SOFT, _font(11))
    for number, at in enumerate(np.ndindex(grid, grid)):
        y = top + number * (high + GAP)
        label = f"{at[0] + 1}, {at[1] + 1}"
        draw.text((left, y + tile // 2), label, INK, _font(), anchor="lm")
        sheet.paste(_block(image, at, grid, tile), (left + 44, y))
        for place, (item, share) in enumerate(heard[at], start=1):
            x = left + 44 + place * (tile + GAP) + GAP
            sheet.paste(_block(known[item], at, grid, tile), (x, y))
            draw.text((x, y + tile + 2), f"{item}: {share:.0%}", SOFT, _font(11))
    return sheet


def _heard(ids: Sequence[int], shares: np.ndarray) -> list[tuple[int, float]]:
    total = float(shares.sum()) or 1.0
    pairs = [(item, float(share) / total) for item, share in zip(ids, shares, strict=True)]
    return sorted((pair for pair in pairs if pair[1] > 0), key=lambda pair: -pair[1])


def _block(image: Image.Image, at: tuple[int, int], grid: int, size: int) -> Image.Image:
    side = image.width / grid
    box = (at[1] * side, at[0] * side, (at[1] + 1) * side, (at[0] + 1) * side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


def _ruled(image: Image.Image, grid: int) -> Image.Image:
    draw = ImageDraw.Draw(image)
    for line in range(1, grid):
        at = round(line * image.width / grid)
        draw.line([(at, 0), (at, image.height)], LINE)
        draw.line([(0, at), (image.width, at)], LINE)
    return image


def _font(size: int = 13) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # a font that Pillow carries


def _width(text: str, size: int = 13) -> int:
    return round(_font(size).getlength(text))
