"""The parts of a PNG file that Pillow reads too little of, or refuses the picture for.

It looks for texts before the pixels only, where `ImageMagick` writes them behind; and a text or a
color profile of more than a megabyte makes it refuse the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# texts that say which way is up
ORIENTING = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
MAX_TEXT = 2**20 - 2**10  # bytes of a text; Pillow's own limit, with room for its key
MAX_PROFILE = 8 * 2**20
MAX_CHUNKS = 100_000  # a large picture has some 16,000


def lightened(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG file without what is not needed to show it, and its color profile.

    Raises:
        ValueError: for more parts than any picture has.
    """
    kept, profile = [SIGNATURE], None
    for kind, start, end in _chunks(data):
        if kind == b"iCCP":
            name, _, packed = data[start + 8 : end - 4].partition(b"\0")
            profile = _inflated(packed[1:], MAX_PROFILE) if name else None
        elif kind not in TEXTS or _orients(kind, data[start + 8 : end - 4]):
            kept.append(data[start:end])
    return b"".join(kept), profile


def text_of(data: bytes, key: bytes) -> str | None:
    """A text of a PNG file, wherever in it and however it is stored; the last one of that key.

    Damaged ones count as none: a recipe with another digit in it would paint another picture.
    """
    found = None
    for kind, start, end in _chunks(data) if data.startswith(SIGNATURE) else ():
        if kind not in TEXTS or not data.startswith(key + b"\0", start + 8):
            continue
        if zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big"):
            value = _text(kind, data[start + 9 + len(key) : end - 4])
            found = found if value is None else value
    return found


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every part; what is cut off or odd at the end is one of no kind."""
    place = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if place >= len(data):
            return
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            yield b"", place, len(data)
            return
        yield data[place + 4 : place + 8], place, end
        place = end
    raise ValueError("too many chunks")


def _orients(kind: bytes, content: bytes) -> bool:
    key, _, rest = content.partition(b"\0")
    return key in ORIENTING and _text(kind, rest) is not None


def _text(kind: bytes, rest: bytes) -> str | None:
    """The text behind its key; None when it is longer than any that we need, or damaged."""
    packed, encoding = kind == b"zTXt", "latin-1"
    if kind == b"iTXt":
        packed, encoding = rest[:1] == b"\1", "utf-8"
        rest = rest[1:2] + rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed:
        inflated = _inflated(rest[1:], MAX_TEXT)
        return None if inflated is None else inflated.decode(encoding, "replace")
    rest = rest[1:] if kind == b"iTXt" else rest
    return rest.decode(encoding, "replace") if len(rest) <= MAX_TEXT else None


def _inflated(packed: bytes, limit: int) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, limit)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else data
