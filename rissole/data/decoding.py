"""Pixels of any kind to plain 8-bit RGB in the colors of the web, without copies of the whole.

What a decoder made is walked through in strips: each is brought to 8 bits and reduced before the
next one is looked at, so that transparency, floats and color profiles cost little more than the
small picture that is wanted.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from rissole.config import RissoleError

STRIP = 2**20  # pixels dealt with at a time
COMPACT = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")  # what Pillow reduces
CHANNELS = (1, 3, 4)


def to_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """Converts any Pillow mode to RGB in sRGB, without clipping bright samples.

    Transparency is laid over white. A color profile that is odd counts as none.

    Args:
        image: a decoded picture.
        factor: so many pixels of each side become one, their mean.
    """
    tones = _tones(image)
    parts = (_compact(strip, tones).reduce(factor) for strip in _strips(image, factor))
    first = next(parts)
    whole = Image.new(first.mode, (first.width, -(-image.height // factor)))
    whole.paste(first)
    top = first.height
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    if "A" in whole.getbands():
        gray, whole = whole.mode == "LA", whole.convert("RGBA")
        whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
        whole = whole.convert("L" if gray else "RGB")
    return _in_srgb(whole, image.info.get("icc_profile")).convert("RGB")


def of_array(values: np.ndarray | torch.Tensor) -> Image.Image:
    """A picture of numbers.

    Args:
        values: (H, W), (H, W, C) or (C, H, W), with C of 1, 3 or 4, or one such in a batch. Bool,
            whole numbers of 8 or 16 bits, or floats: from 0 to 1, from -1 to 1 where one of them is
            negative, else from 0 to 255.

    Raises:
        RissoleError: for any other shape or range.
    """
    first = isinstance(values, torch.Tensor)  # where the channels stand, if both may be
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    if values.dtype.kind not in "buif" or 0 in values.shape:
        raise RissoleError("an array of a picture must hold numbers")
    pixels = _channels_last(values[0] if values.ndim == 4 and len(values) == 1 else values, first)
    pixels = _eight_bits(pixels)
    return Image.fromarray(
        pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)
    )


def _channels_last(values: np.ndarray, first: bool) -> np.ndarray:
    if values.ndim == 2:
        return values[:, :, None]
    if values.ndim == 3:
        places = [place for place in (0, 2) if values.shape[place] in CHANNELS]
        if places:
            return values.transpose(1, 2, 0) if places[0 if first else -1] == 0 else values
    shape = " x ".join(map(str, values.shape))
    raise RissoleError(f"an array of a picture is H x W, H x W x 3 or 3 x H x W, not {shape}")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())  # NaN where there is one
    if values.dtype.kind == "f":
        ranges = [(0, 1), (-1, 1), (0, 255)]
    else:
        ranges = [(0, 1)] if values.dtype == bool else [(0, 255), (0, 65535)]
        ranges = ranges[1:] if values.dtype == np.uint16 else ranges
    for bottom, top in ranges:
        if bottom <= low and high <= top:
            scaled = (values.astype(np.float32) - bottom) * (255 / (top - bottom))
            return scaled.round().astype(np.uint8)
    raise RissoleError(
        "values of a picture must be from 0 to 1, -1 to 1, 0 to 255, or whole numbers to 65535"
    )


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    """The picture from top to bottom, in parts whose height is a multiple of the factor."""
    rows = max(1, STRIP // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _compact(strip: Image.Image, tones: tuple[float, float] | None) -> Image.Image:
    """A part of a picture in a mode of 8 bits that can be reduced."""
    if tones is not None:
        low, high = tones
        samples = np.nan_to_num(np.asarray(strip, dtype=np.float32), nan=low)
        scaled = (samples.clip(low, high) - low) * (255.0 / max(high - low, 1e-12))
        return Image.fromarray(scaled.round().astype(np.uint8))
    if "transparency" in strip.info or strip.mode in ("PA", "RGBa"):
        return strip.convert("RGBA")
    if strip.mode == "La":
        return strip.convert("LA")
    return strip if strip.mode in COMPACT else strip.convert("L" if strip.mode == "1" else "RGB")


def _tones(image: Image.Image) -> tuple[float, float] | None:
    """What is black and what is white among samples of more than 8 bits; None for those of 8.

    Samples in 0..65535 are taken as 16-bit, floats in 0..1 as fractions; any other range is
    stretched from its smallest to its largest sample.
    """
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    if image.mode not in ("I", "F"):
        return None
    low, high = np.inf, -np.inf
    for strip in _strips(image, 1):
        samples = np.asarray(strip, dtype=np.float32)
        samples = samples[np.isfinite(samples)]
        if samples.size:
            low, high = min(low, float(samples.min())), max(high, float(samples.max()))
    if low > high:  # no number among them
        return 0.0, 1.0
    full = 1.0 if image.mode == "F" else 65535.0
    return (0.0, full) if low >= 0 and high <= full else (low, high)


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The picture with the colors that its profile means; as it is where that cannot be told."""
    if not isinstance(profile, bytes) or not profile:
        return image
    # a profile may be of another mode, damaged, or of a kind that the library does not know; and
    # Pillow may have been built without it
    with contextlib.suppress(Exception):
        from PIL import ImageCms

        own = ImageCms.getOpenProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}[own.profile.xcolor_space]
        if mode == "CMYK" and image.mode != "CMYK":
            return image
        how = ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB", False
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        made = ImageCms.profileToProfile(
            image.convert(mode), own, ImageCms.createProfile("sRGB"), *how, flags=flags
        )
        return image if made is None else made
    return image
