"""Pictures in and out: strict loading, tensors, and PNG files that carry their recipe.

Everything a user hands in passes through `load_image`, which decides on the header alone whether
a file may be decoded at all. Everything the project writes passes through `save_png`.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

from rissole.config import QUOTED, RissoleError
from rissole.storage.files import write_atomic

MAX_PIXELS = 40_000_000
MAX_BYTES = 128 * 2**20
LIMIT = f"at most {MAX_PIXELS // 1_000_000} million pixels are accepted"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
RECIPE_KEY, QUERY_KEY = "rissole", "rissole-query"  # text chunks of a PNG

ImageSource = str | Path | bytes | BinaryIO | Image.Image


def load_image(source: ImageSource) -> Image.Image:
    """Load a picture from a file, bytes, an open binary file or a PIL image as plain 8-bit RGB.

    The first frame counts, EXIF orientation is applied, 16-bit and float samples are scaled to
    8 bits, and transparency is laid over white.

    Args:
        source: what to load; at most `MAX_BYTES` long and `MAX_PIXELS` large, in one of `FORMATS`.

    Returns:
        A new RGB image that shares no memory or open file with `source`.

    Raises:
        RissoleError: one line that says what is wrong with the picture.
    """
    with _opened(source) as (image, name):
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height} pixels"
            raise RissoleError(f"{name} is too large: {size}, {LIMIT}")
        try:
            image.load()
            with contextlib.suppress(Exception):  # unreadable EXIF data counts as none
                image = ImageOps.exif_transpose(image)
            rgb = _to_rgb(image)
        # Decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error, ...
        except Exception as error:
            raise RissoleError(f"{name} is damaged and cannot be decoded") from error
    rgb.info.clear()  # a kept color profile or palette entry would end up in saved pictures
    return rgb


def square(image: Image.Image, size: int) -> Image.Image:
    """Cut the largest centered square out of `image` and scale it to `size` x `size` pixels."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: resize(box=...) would blend in pixels from outside the square.
    cut = image.crop((left, top, left + side, top + side))
    return cut.resize((size, size), Image.Resampling.LANCZOS)


def to_tensor(images: Image.Image | Sequence[Image.Image]) -> torch.Tensor:
    """Turn one RGB image, or several of one size, into a float32 tensor (B, 3, H, W) in [-1, 1]."""
    batch = [images] if isinstance(images, Image.Image) else list(images)
    if not batch or len({image.size for image in batch}) > 1:
        raise ValueError("to_tensor needs one or more images of one size")
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in batch])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


def to_pil(tensor: torch.Tensor) -> list[Image.Image]:
    """Turn a tensor (B, 3, H, W) in [-1, 1] into B RGB images; values outside are clamped.

    Raises:
        RissoleError: if a value is NaN or infinite, which would silently become a black picture.
    """
    values = tensor.detach().float().cpu()
    if not torch.isfinite(values).all():
        raise RissoleError("the picture contains values that are not finite (NaN or infinity)")
    pixels = values.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).contiguous().numpy()]


def save_png(
    image: Image.Image,
    target: str | Path | BinaryIO,
    recipe: dict[str, Any] | None = None,
    query: int | None = None,
) -> None:
    """Write `image` as PNG with its recipe inside; same picture and recipe, same bytes.

    Args:
        image: the picture; saved as RGB.
        target: a path (written to a temporary file, then renamed) or an open binary file.
        recipe: stored as JSON in the text chunk `rissole`, see `read_recipe`.
        query: the database picture that was searched with, stored beside it, see `read_query`.

    Raises:
        RissoleError: if the path cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    if recipe is not None:
        text.add_text(RECIPE_KEY, json.dumps(recipe, sort_keys=True, allow_nan=False))
    if query is not None:
        text.add_text(QUERY_KEY, str(query))
    buffer = io.BytesIO()
    pixels = image.convert("RGB")
    pixels.info.clear()
    pixels.save(buffer, format="PNG", pnginfo=text)
    if isinstance(target, (str, Path)):
        write_atomic(Path(target), buffer.getvalue())
    else:
        target.write(buffer.getvalue())


def read_recipe(source: ImageSource) -> dict[str, Any] | None:
    """Read the recipe that `save_png` stored, without decoding the picture.

    Returns:
        The recipe as found (not validated), or None if the picture carries none.

    Raises:
        RissoleError: if `source` is no readable picture.
    """
    with _opened(source) as (image, _):
        text = image.info.get(RECIPE_KEY)
    try:
        recipe = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def read_query(source: ImageSource) -> int | None:
    """The database picture that `save_png` noted as the query; None if there is none.

    Raises:
        RissoleError: if `source` is no readable picture.
    """
    with _opened(source) as (image, _):
        text = image.info.get(QUERY_KEY)
    return int(text) if isinstance(text, str) and re.fullmatch(r"\d{1,18}", text) else None


def contact_sheet(images: Sequence[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """Lay images of one size out row by row, `gap` white pixels apart."""
    if not images or columns < 1:
        raise ValueError("contact_sheet needs at least one image and one column")
    width, height = images[0].size
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * (width + gap), row * (height + gap)))
    return sheet


def printable(name: str) -> str:
    """A file's name as a line of text, however odd its characters are."""
    return "".join(character if character.isprintable() else "?" for character in name)


@contextlib.contextmanager
def _opened(source: ImageSource) -> Iterator[tuple[Image.Image, str]]:
    """Open the header of `source`; yields the undecoded image and what to call it in messages."""
    if isinstance(source, Image.Image):
        yield source, "the picture"
        return
    data, name = _read(source)
    if not data:
        raise RissoleError(f"{name} is empty (0 bytes)")
    with warnings.catch_warnings():
        # Pillow warns of sizes below its own limit and of odd EXIF data; our messages suffice.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with _open_header(data, name) as image:
            yield image, name


def _read(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    """The bytes of `source`, never more than the limit, and its name without folders."""
    name = "the picture"
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, Path)):
        name = printable(Path(source).name)
        name = name if len(name) <= QUOTED else name[: QUOTED - 3] + "..."
        data = _read_file(Path(source), name)
    else:
        data = source.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RissoleError(f"{name} is larger than {MAX_BYTES // 2**20} MB")
    return data, name


def _read_file(path: Path, name: str) -> bytes:
    """Read a regular file (no folder, pipe or device) up to just over the size limit."""
    try:
        if not path.exists():
            raise RissoleError(f"no such file: {name}")
        if not path.is_file():
            raise RissoleError(f"{name} is not a file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RissoleError(f"cannot read {name}: {error.strerror or error}") from error


def _open_header(data: bytes, name: str) -> Image.Image:
    """Identify the format and size; Pillow does not decode pixels here."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise RissoleError(f"{name} is too large: {LIMIT}") from error
    # Header parsers raise nearly anything on damaged data, as decoders do.
    except Exception as error:
        known = ", ".join(FORMATS)
        raise RissoleError(f"{name} is not a picture in a known format ({known})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB without clipping bright samples or blackening alpha."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _scale_to_8_bits(image)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Map samples of more than 8 bits to 0..255 (Pillow itself would clip them to white).

    Samples in 0..65535 are taken as 16-bit, floats in 0..1 as fractions; any other range is
    stretched from its smallest to its largest sample.
    """
    samples = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = float(samples.min()), float(samples.max())
    if image.mode == "F" and low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    elif image.mode != "F" and low >= 0.0 and high <= 65535.0:
        low, high = 0.0, 65535.0
    scaled = (samples - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(scaled.round().astype(np.uint8))
