"""Passing pictures on: links that hold a recipe, animations, sheets with labels.

A link holds everything that determines a picture, so that whoever opens it sees the same pixels.
It is a query string such as `b=1f3a...&d=77c0...&p=n3.17.5~op~g4~t20~w1.5~s42`: fingerprints of the
weights and of the database, then one `p` for the picture and one more for each repaint upon it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rissole.config import MAX_REPAINTS, ORDERS, Recipe, RissoleError
from rissole.outputs import BlockStep
from rissole.pipeline import RissolePipeline

MAX_LINK = 6000  # characters; browsers and servers carry at least this many
MAX_FRAMES = 48
DAMAGED = "the link is damaged, or not one of this app"
KINDS = {"gif": "GIF", "webp": "WEBP"}

_LETTERS = {"n": "neighbors", "o": "order", "g": "grid", "t": "num_inference_steps"}
_LETTERS |= {"w": "guidance_scale", "s": "seed", "x": "block_neighbors", "r": "blocks"}
_NUMBERS = re.compile(r"\d{1,19}(\.\d{1,19})*", re.ASCII)


# ---- links ---------------------------------------------------------------------------------------


def layers(recipe: Recipe) -> list[Recipe]:
    """The whole picture a recipe starts from, then every repaint upon it, `recipe` itself last."""
    return list(recipe.layers)


def encode(recipe: Recipe, item: int | None = None) -> str:
    """A recipe as a compact query string, without the question mark; `decode` reads it.

    Args:
        recipe: what to pass on.
        item: the database picture that was searched with, to show it again (`query_of`).
    """
    head = {"b": recipe.bundle, "d": recipe.database, "q": item}
    parts = [f"{name}={value}" for name, value in head.items() if value is not None]
    return "&".join(parts + [f"p={_layer(layer)}" for layer in layers(recipe)])


def decode(link: str) -> Recipe:
    """The recipe of a query string, or of a whole address with one.

    Raises:
        RissoleError: one line, whatever was given.
    """
    pairs = _pairs(link)
    texts = [value for name, value in pairs if name == "p"]
    if not 1 <= len(texts) <= MAX_REPAINTS + 1:
        raise RissoleError(DAMAGED)
    origin = {"bundle": dict(pairs).get("b"), "database": dict(pairs).get("d")}
    recipe = None
    for text in texts:
        recipe = Recipe.validated(**origin, **_settings(text), init=recipe)
    return recipe


def query_of(link: str) -> int | None:
    """The database picture that a link names as the query, if any."""
    text = dict(_pairs(link)).get("q", "")
    return int(text) if _NUMBERS.fullmatch(text) and text.isdigit() else None


def _pairs(link: str) -> list[tuple[str, str]]:
    if not isinstance(link, str) or len(link) > MAX_LINK:
        raise RissoleError(DAMAGED)
    return parse_qsl(link.rpartition("?")[2].partition("#")[0])


def _layer(recipe: Recipe) -> str:
    fields = [
        "n" + _dotted(recipe.neighbors),
        *("x" + _dotted((row, col, *ids)) for row, col, ids in recipe.block_neighbors),
        "o" + recipe.order[0],
        f"g{recipe.grid}",
        f"t{recipe.num_inference_steps}",
        "w" + repr(recipe.guidance_scale).removesuffix(".0"),
        f"s{recipe.seed}",
        *("r" + _dotted(position) for position in recipe.blocks),
    ]
    return "~".join(fields)


def _dotted(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))


def _settings(text: str) -> dict[str, Any]:
    """The settings of one picture or repaint; those left out keep their usual values."""
    found: dict[str, Any] = {}
    for field in text.split("~"):
        name, value = _LETTERS.get(field[:1]), field[1:]
        if name is None:
            raise RissoleError(DAMAGED)
        if name in ("block_neighbors", "blocks"):
            found.setdefault(name, []).append(_numbers(value))
        else:
            found[name] = _value(name, value)
    found["block_neighbors"] = [(*n[:2], n[2:]) for n in found.get("block_neighbors", [])]
    return found


def _value(name: str, text: str) -> Any:
    if name == "order":
        return {order[0]: order for order in ORDERS}.get(text, text)
    if name == "guidance_scale":
        try:
            return float(text)
        except ValueError:
            raise RissoleError(DAMAGED) from None
    return _numbers(text) if name == "neighbors" else _numbers(text)[0]


def _numbers(text: str) -> list[int]:
    if not _NUMBERS.fullmatch(text):
        raise RissoleError(DAMAGED)
    return [int(number) for number in text.split(".")]


# ---- animations ----------------------------------------------------------------------------------


def sampled(total: int, limit: int = MAX_FRAMES) -> set[int]:
    """Which of the steps 1 to `total` to show: at most `limit`, evenly spread, the last included.

    Args:
        total: how many steps there are.
        limit: the most frames.
    """
    count = min(total, limit)
    return {round((n + 1) * total / count) for n in range(count)}


def painting(
    pipe: RissolePipeline, recipe: Recipe, limit: int = MAX_FRAMES
) -> Iterator[tuple[float, Image.Image | None]]:
    """Paints a recipe, its repaints too, and decodes only the frames that are worth showing.

    Args:
        pipe: who paints.
        recipe: what to paint.
        limit: the most frames, more only where there are more repaints than that.

    Yields:
        (share done, from 0 to 1; the picture so far, or None between two frames)

    Raises:
        RissoleError: before anything is painted.
    """
    parts, output = layers(recipe), None
    each = max(1, limit // len(parts))
    for place, layer in enumerate(parts):
        for step in pipe.stream(layer, init=output):
            number, total = _place(step)
            shown = step.preview if number in sampled(total, each) else None
            yield (place + number / total) / len(parts), shown
        output = step.output


def _place(step: BlockStep) -> tuple[int, int]:
    total = step.num_blocks * step.total_steps
    return (step.index - 1) * step.total_steps + step.step, total


def animation(
    frames: Sequence[Image.Image],
    kind: str = "gif",
    seconds: float = 4.0,
    hold: float = 1.6,
    size: int = 256,
) -> bytes:
    """An animated picture that runs for ever.

    Args:
        frames: pictures of one size.
        kind: "gif", which everything shows, or "webp", smaller and with all colours.
        seconds: how long the frames but the last take together.
        hold: how long the last frame stays, in seconds.
        size: side of the result in pixels.

    Raises:
        RissoleError: without frames, or for another kind.
    """
    if kind not in KINDS or not frames:
        raise RissoleError(f"an animation needs frames and one of {', '.join(KINDS)}")
    frames = [frame.convert("RGB") for frame in frames]
    each = max(40, round(1000 * seconds / max(1, len(frames) - 1)))
    resized = [frame.resize((size, size), Image.Resampling.BICUBIC) for frame in frames]
    if kind == "gif":  # the file writer would do it, too, ten times slower
        resized = [frame.quantize(256, Image.Quantize.MEDIANCUT) for frame in resized]
    options = {"quality": 80, "method": 3} if kind == "webp" else {"optimize": False}
    buffer = io.BytesIO()
    resized[0].save(
        buffer,
        KINDS[kind],
        save_all=True,
        append_images=resized[1:],
        duration=[each] * (len(frames) - 1) + [round(1000 * hold)],
        loop=0,
        **options,
    )
    return buffer.getvalue()


# ---- sheets --------------------------------------------------------------------------------------

INK, SOFT, PAPER, LINE = "#1f1b18", "#6e665d", "#fffdfa", "#c8643a"
GAP = 8


def labelled_grid(
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
        ids: neighbours, the columns of `attention`.
        attention: (rows, cols, len(ids)); zero where a block did not see a neighbour.
        picture: gives the picture of a database id.
        title: a line above all.
        tile: side of a block on the sheet in pixels.
    """
    grid, side = len(attention), 4 * tile
    heard = {at: _heard(ids, attention[at]) for at in np.ndindex(grid, grid)}
    most = max(map(len, heard.values()), default=0)
    top, left, high = GAP + (28 if title else 0), side + 4 * GAP, tile + 20
    width = max(left + 44 + (1 + most) * (tile + GAP) + GAP, _width(title, 16) + 2 * GAP)
    whole = -(-len(ids) // 2) * (2 * tile + 20)  # the neighbours, two in a row
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
