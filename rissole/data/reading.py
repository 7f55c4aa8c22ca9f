"""One item of a source to a square picture, or to the reason why it is none."""

from __future__ import annotations

from PIL import Image

from rissole.config import RissoleError
from rissole.data.images import OWN_FILES, load_square
from rissole.data.items import Item, LeftOut


def read_square(item: Item, size: int) -> Image.Image | LeftOut:
    """Decodes an item of a source as a square of `size` pixels."""
    if item.data is None:
        return LeftOut(item.name, "holds no picture")
    try:
        return load_square(item.data, size, OWN_FILES)
    except RissoleError as error:
        return LeftOut(item.name, str(error))
