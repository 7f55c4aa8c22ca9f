"""What a file is, by its first bytes: what it is called says little."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import NamedTuple

from PIL import Image

HEAD = 1024  # bytes of a file that tell what it is

# A picture in one of these is read from anybody; in one of the others, which have more ways to be
# odd, from files of one's own.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MORE_FORMATS = ("JPEG2000", "PPM", "HEIF")

HEIF_ADVICE = "pip install pillow-heif makes it readable"
UNPACK, CONVERT, INDEX = "unpack it first", "save it as PNG or JPEG", "give it by itself"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


class Kind(NamedTuple):
    """What a file that is no picture for us is, and what would make one of it."""

    what: str
    advice: str = ""


# where the mark stands, the mark, what it says
MARKS = (
    (0, b"version https://git-lfs", Kind("a pointer of Git LFS", "git lfs pull fetches the file")),
    (0, b"\xff\x0a", Kind("a JPEG XL picture", CONVERT)),
    (4, b"JXL \r\n\x87\n", Kind("a JPEG XL picture", CONVERT)),
    (0, b"8BPS", Kind("a Photoshop document", CONVERT)),
    (0, b"\0\0\1\0", Kind("an icon", CONVERT)),
    (0, b"\x76\x2f\x31\x01", Kind("an OpenEXR picture", CONVERT)),
    (0, b"#?RADIANCE", Kind("a Radiance picture", CONVERT)),
    (0, b"FUJIFILMCCD-RAW", Kind("a camera's raw file", CONVERT)),
    (0, b"IIU\0", Kind("a camera's raw file", CONVERT)),
    (0, b"IIRO", Kind("a camera's raw file", CONVERT)),
    (0, b"IIRS", Kind("a camera's raw file", CONVERT)),
    (8, b"CR\2", Kind("a camera's raw file", CONVERT)),
    (4, b"ftypcrx ", Kind("a camera's raw file", CONVERT)),
    (4, b"ftyp", Kind("a film")),
    (8, b"AVI LIST", Kind("a film")),
    (0, b"\x1a\x45\xdf\xa3", Kind("a film")),
    (0, b"RIFF", Kind("a sound")),
    (0, b"%PDF", Kind("a PDF document", CONVERT)),
    (0, b"PK\3\4", Kind("a ZIP archive", UNPACK)),
    (0, b"PK\5\6", Kind("a ZIP archive", UNPACK)),
    (0, b"\x1f\x8b", Kind("a gzip archive", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (0, b"Rar!", Kind("a RAR archive", UNPACK)),
    (257, b"ustar", Kind("a tar archive", UNPACK)),
    (0, b"PAR1", Kind("a parquet file", INDEX)),
    (0, b"ARROW1", Kind("an Arrow file", "the datasets library turns it into parquet")),
    (0, b"\x93NUMPY", Kind("a NumPy array")),
    (0, b"\x89HDF", Kind("an HDF5 file")),
)
RAW = Kind("a camera's raw file", CONVERT)  # also those that pass for TIFF


def picture_format(head: bytes) -> str | None:
    """The format of a picture, one of `FORMATS` or `MORE_FORMATS`, else None.

    Args:
        head: the first `HEAD` bytes of a file.
    """
    if head[:2] == b"BM":  # as many texts begin, too
        known = len(head) > 18 and int.from_bytes(head[14:18], "little") in BMP_HEADERS
        return "BMP" if known else None
    if head[4:8] == b"ftyp":
        return _format_of_brands(head)
    marks = {
        "PNG": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "JPEG": head.startswith(b"\xff\xd8\xff"),
        "WEBP": head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        "GIF": head.startswith((b"GIF87a", b"GIF89a")),
        "TIFF": head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and head[8:11] != b"CR\2",
        "JPEG2000": head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
        "PPM": head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
    }
    return next((name for name, found in marks.items() if found), None)


def readable_format(head: bytes, formats: tuple[str, ...]) -> str | None:
    """The format of a picture if it is one of some that can be read here, else None."""
    found = picture_format(head)
    return found if found in formats and (found != "HEIF" or heif_at_hand()) else None


def other_kind(head: bytes) -> Kind | None:
    """What a file is that is no picture for us; None for what nobody knows."""
    if not head:
        return Kind("empty (0 bytes)")
    if picture_format(head) == "HEIF":
        return Kind("a HEIC picture", HEIF_ADVICE)
    if picture_format(head) in MORE_FORMATS:
        return Kind(f"a {picture_format(head)} picture", CONVERT)
    for place, mark, kind in MARKS:
        if head[place : place + len(mark)] == mark:
            return kind
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:HEAD].lower()
    if b"<svg" in start:
        return Kind("an SVG drawing", CONVERT)
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind("a page of the web", "download the picture itself")
    return Kind("text") if _is_text(head) else None


def heif_at_hand() -> bool:
    """Whether the package that reads HEIC is installed; if so, Pillow knows it from now on."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    if "HEIF" not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return True


def _format_of_brands(head: bytes) -> str | None:
    """Of the family of containers that films have, too, the pictures."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, length, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIF" if any(brand in HEIF_BRANDS for brand in brands) else None


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    for cut in range(4):  # the last character may be cut in two
        with contextlib.suppress(UnicodeDecodeError):
            head[: len(head) - cut].decode()
            return True
    return False
