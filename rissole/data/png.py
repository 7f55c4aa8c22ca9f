"""The parts of a PNG file that Pillow reads too little of, or refuses the picture for.

It looks for texts before the pixels only, where `ImageMagick` writes them behind; and a text or a
color profile of more than a megabyte makes it refuse the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# texts that say which way is up
ORIENTING = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
TRIES = 3  # texts of a key that are unpacked, where the last ones are damaged
MAX_KEY = 80  # bytes of the key of a text, with the zero behind it
MAX_TEXT = 2**20 - 2**10  # bytes of a text; Pillow's own limit, with room for its key
MAX_PROFILE = 8 * 2**20
MAX_CHUNKS = 100_000  # a large picture has some 16,000


def lightened(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG file without what is not needed to show it, and its color profile.

    Of each text that says which way is up the last intact one stays, as of the profiles the last:
    whatever a file is full of, a handful of its parts is inflated.

    Raises:
        ValueError: for more parts than any picture has.
    """
    turning = {start for start, _ in _texts(data, ORIENTING).values()}
    kept, packed = [SIGNATURE], b""
    for kind, start, end in _chunks(data):
        if kind == b"iCCP":
            name, _, rest = data[start + 8 : end - 4].partition(b"\0")
            packed = rest[1:] if name else b""
        elif kind not in TEXTS or start in turning:
            kept.append(data[start:end])
    return b"".join(kept), _inflated(packed, MAX_PROFILE) if packed else None


def texts_of(data: bytes, keys: Collection[bytes]) -> dict[bytes, str]:
    """Texts of a PNG file, wherever in it and however they are stored; of each key the last one.

    Damaged ones count as none: a recipe with another digit in it would paint another picture.

    Raises:
        ValueError: for more parts than any picture has.
    """
    found = _texts(data, keys) if data.startswith(SIGNATURE) else {}
    return {key: text for key, (_, text) in found.items()}


def _texts(data: bytes, keys: Collection[bytes]) -> dict[bytes, tuple[int, str]]:
    """Where the last text of each key starts that can be read, and what it says.

    Of texts that say what they were written with, but cannot be unpacked, `TRIES` are looked at.
    """
    last: dict[bytes, list[tuple[bytes, int, int]]] = {key: [] for key in keys}
    for kind, start, end in _chunks(data):
        key = data[start + 8 : min(start + 8 + MAX_KEY, end - 4)].partition(b"\0")[0]
        if kind in TEXTS and key in last and _intact(data, start, end):
            last[key] = [*last[key][1 - TRIES :], (kind, start, end)]
    found = {}
    for key, places in last.items():
        for kind, start, end in reversed(places):
            if (text := _text(kind, data[start + 9 + len(key) : end - 4])) is not None:
                found[key] = start, text
                break
    return found


def _intact(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


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
