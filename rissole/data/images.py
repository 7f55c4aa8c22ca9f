"""Pictures in and out: strict loading, tensors, and PNG files that carry their recipe.

Everything a user hands in passes through `load_image` or `load_square`, which decide on the header
alone whether a file may be decoded at all. Everything the project writes passes through `save_png`.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, JpegImagePlugin, PngImagePlugin

from rissole.config import QUOTED, RissoleError, quoted
from rissole.data import png
from rissole.data.decoding import of_array, to_rgb
from rissole.data.kinds import (
    FORMATS,
    HEAD,
    MORE_FORMATS,
    RAW,
    Kind,
    other_kind,
    readable_format,
)
from rissole.storage.files import write_atomic

RECIPE_KEY, QUERY_KEY = "rissole", "rissole-query"  # texts of a PNG
SPARE = 3  # a picture is decoded at so many times the size that is wanted of it, at least
ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the number that EXIF has for them
ORIENTATION, KIND_OF_PAGE, DNG_VERSION = 0x0112, 0x00FE, 0xC612  # tags of EXIF and TIFF

ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor


class Caps(NamedTuple):
    """What a picture may cost; told from its header, before anything is decoded.

    Attributes:
        bytes: of the file.
        pixels: of the whole picture, where it can be decoded at a fraction of its size: a JPEG of
            which a small square is wanted.
        decoded: pixels that are decoded, and held in memory at once.
        formats: what is read at all.
    """

    bytes: int = 128 * 2**20
    pixels: int = 256_000_000
    decoded: int = 40_000_000
    formats: tuple[str, ...] = FORMATS


CALLER = Caps()  # of who calls the library or gives a file on the command line
VISITOR = Caps(bytes=32 * 2**20, pixels=128_000_000, decoded=24_000_000)  # of who sends it here
OWN_FILES = Caps(decoded=120_000_000, formats=(*FORMATS, *MORE_FORMATS))  # of whole folders


def load_image(source: ImageSource, side: int | None = None, caps: Caps = CALLER) -> Image.Image:
    """Load a picture of any kind as plain 8-bit RGB.

    The first frame counts, EXIF orientation is applied, 16-bit and float samples are scaled to
    8 bits, colors are brought to sRGB, and transparency is laid over white.

    Args:
        source: a path, bytes, an open binary file, a PIL image, an array or a tensor, see
            `decoding.of_array`.
        side: what is wanted of it is a square of so many pixels: much larger pictures are decoded
            at a fraction of their size, with at least `SPARE` times as many pixels per side.
        caps: how large it may be.

    Returns:
        A new RGB image that shares no memory or open file with `source`.

    Raises:
        RissoleError: one line that says what is wrong with the picture.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        source = of_array(source)
    with _opened(source, caps) as (image, name):
        _check_size(image, name, caps, None if isinstance(source, Image.Image) else side)
        factor = max(1, min(image.size) // (SPARE * side)) if side else 1
        try:
            image.load()
            rgb, turn = to_rgb(image, factor), None
            with contextlib.suppress(Exception):  # unreadable EXIF data counts as none
                turn = ROTATIONS.get(image.getexif().get(ORIENTATION, 1))
        # Decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error, ...
        except Exception as error:
            raise RissoleError(f"{name} is damaged and cannot be decoded") from error
    rgb = rgb if turn is None else rgb.transpose(turn)
    rgb.info.clear()  # a kept color profile or palette entry would end up in saved pictures
    return rgb


def load_square(source: ImageSource, size: int, caps: Caps = CALLER) -> Image.Image:
    """The largest centered square of a picture as `load_image` loads it, at `size` pixels."""
    return square(load_image(source, size, caps), size)


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
        query: the database picture that was searched with, stored beside it, see
            `read_recipe_and_query`.

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
    return read_recipe_and_query(source)[0]


def read_recipe_and_query(source: ImageSource) -> tuple[dict[str, Any] | None, int | None]:
    """The recipe as `read_recipe` finds it, and the query.

    Returns:
        (recipe, the database picture that `save_png` noted as the query); None for what is not
        there.

    Raises:
        RissoleError: if `source` is no readable picture.
    """
    recipe, query = _texts(source, (RECIPE_KEY, QUERY_KEY))
    number = re.fullmatch(r"\d{1,18}", query) if isinstance(query, str) else None
    return _parsed(recipe), None if number is None else int(number[0])


def _parsed(text: Any) -> dict[str, Any] | None:
    try:
        recipe = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def _texts(source: ImageSource, keys: Sequence[str]) -> list[Any]:
    """The texts of a picture by their keys, None for those that it does not have."""
    if isinstance(source, Image.Image):
        return [source.info.get(key) for key in keys]
    data, name = _read(source, CALLER)
    if readable_format(data[:HEAD], FORMATS) == "GIF":
        return [None] * len(keys)  # it has none, and Pillow reads every comment to open it
    with _open_header(data, name, CALLER):
        # Pillow would have to decode the pixels to find a text behind them
        found = png.texts_of(data, [key.encode() for key in keys])
    return [found.get(key.encode()) for key in keys]


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
def _opened(source: Any, caps: Caps) -> Iterator[tuple[Image.Image, str]]:
    """Open the header of `source`; yields the undecoded image and what to call it in messages."""
    if isinstance(source, Image.Image):
        yield source, "the picture"
        return
    data, name = _read(source, caps)
    with _open_header(data, name, caps) as image:
        yield image, name


def _read(source: Any, caps: Caps) -> tuple[bytes, str]:
    """The bytes of `source`, never more than the limit, and its name without folders."""
    name = "the picture"
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, Path)):
        name = printable(Path(source).name)
        name = name if len(name) <= QUOTED else name[: QUOTED - 3] + "..."
        data = _read_file(Path(source), name, caps)
    elif hasattr(source, "read"):
        data = source.read(caps.bytes + 1)
    else:
        kinds = "a path, bytes, an open file, a PIL image, an array or a tensor"
        raise RissoleError(f"a picture must be {kinds}, not {quoted(source)}")
    if not isinstance(data, bytes):
        raise RissoleError(f"{name} must be opened as a binary file")
    if len(data) > caps.bytes:
        raise RissoleError(f"{name} is larger than {caps.bytes // 2**20} MB")
    if not data:
        raise RissoleError(f"{name} is empty (0 bytes)")
    return data, name


def _read_file(path: Path, name: str, caps: Caps) -> bytes:
    """Read a regular file (no folder, pipe or device) up to just over the size limit."""
    try:
        if not path.exists():
            raise RissoleError(f"no such file: {name}")
        if not path.is_file():
            raise RissoleError(f"{name} is not a file")
        with path.open("rb") as file:
            return file.read(caps.bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise RissoleError(f"cannot read {name}: {reason}") from error


@contextlib.contextmanager
def _open_header(data: bytes, name: str, caps: Caps) -> Iterator[Image.Image]:
    """Identify the format and size; Pillow does not decode pixels here."""
    found = readable_format(data[:HEAD], caps.formats)
    if found is None:
        raise RissoleError(unknown_kind(name, other_kind(data[:HEAD])))
    with warnings.catch_warnings():
        # Pillow warns of sizes below its own limit and of odd EXIF data; our messages suffice.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            image = _identified(data, found)
        except Image.DecompressionBombError as error:
            raise RissoleError(f"{name} is too large: {_most(caps)}") from error
        # Header parsers raise nearly anything on damaged data, as decoders do.
        except Exception as error:
            raise RissoleError(unknown_kind(name, Kind(f"a damaged {found} file"))) from error
        with image:
            tags = getattr(image, "tag_v2", {})
            if tags.get(KIND_OF_PAGE, 0) & 1 or DNG_VERSION in tags:
                raise RissoleError(unknown_kind(name, RAW))  # what is first in it is a thumbnail
            yield image


def _identified(data: bytes, kind: str) -> Image.Image:
    if kind == "JPEG":
        # itself: Image.open refuses large ones though they can be decoded at a fraction, and
        # takes those with a second picture inside for another format
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if kind != "PNG":
        return Image.open(io.BytesIO(data), formats=[kind])
    data, profile = png.lightened(data)
    image = Image.open(io.BytesIO(data), formats=[kind])
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def unknown_kind(name: str, kind: Kind | None) -> str:
    """Why a file is not read, and what would help."""
    what = "is " if kind is None else f"is {kind.what}, "
    advice = "" if kind is None or not kind.advice else f": {kind.advice}"
    return f"{name} {what}not a picture in a known format ({', '.join(FORMATS)}){advice}"


def _check_size(image: Image.Image, name: str, caps: Caps, side: int | None) -> None:
    """Refuses a picture that is too large; has a JPEG decoded at a fraction where that will do."""
    width, height = image.size
    if side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (SPARE * side, SPARE * side))
    # of a progressive one everything is held while it is decoded
    held = width * height if image.info.get("progressive") else image.width * image.height
    if width * height > caps.pixels or held > caps.decoded:
        raise RissoleError(f"{name} is too large: {width} x {height} pixels, {_most(caps)}")


def _most(caps: Caps) -> str:
    return f"at most {caps.decoded // 1_000_000} million pixels are accepted"
