"""The painting of a recipe as an animated picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image

from rissole.config import Recipe, RissoleError
from rissole.outputs import BlockStep
from rissole.pipeline import RissolePipeline

MAX_FRAMES = 48
KINDS = {"gif": "GIF", "webp": "WEBP"}


def sampled(total: int, limit: int = MAX_FRAMES) -> set[int]:
    """Which of the steps 1 to `total` to show: at most `limit`, evenly spread, the last included.

    Args:
        total: how many steps there are.
        limit: the most frames.
    """
    count = min(total, limit)
    return {round((n + 1) * total / count) for n in range(count)}


def filmed(
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
    parts, output = recipe.layers, None
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


def animated(
    frames: Sequence[Image.Image],
    kind: str = "gif",
    seconds: float = 4.0,
    hold: float = 1.6,
    size: int = 256,
) -> bytes:
    """An animated picture that runs for ever.

    Args:
        frames: pictures of one size.
        kind: "gif", which everything shows, or "webp", smaller and with all colors.
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
