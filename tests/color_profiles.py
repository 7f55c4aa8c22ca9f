"""Color profiles, made here from the numbers of their standards."""

import struct

D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def curve(numbers: tuple[float, ...]) -> bytes:
    """A parametric curve: a gamma alone, or that of sRGB with its straight start."""
    return b"para\0\0\0\0" + struct.pack(">HH", {1: 0, 5: 3}[len(numbers)], 0) + fixed(*numbers)


def text(value: str) -> bytes:
    words = value.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(words), 28) + words


def profile(name: str, space: bytes, curves: tuple[float, ...], columns=()) -> bytes:
    """An ICC profile, version 4, of a display or of gray."""
    tags = {b"desc": text(name), b"cprt": text("free"), b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve(curves)
    for letter, column in zip(b"rgb", columns, strict=bool(columns)):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[bytes([letter]) + b"TRC"] = curve(curves)
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for key, data in tags.items():
        table += struct.pack(">4sII", key, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI12s", start + len(body), bytes(4), 0x04300000, b"mntr", space,
        b"XYZ ", bytes(12), b"acsp", bytes(4), 0, 0, 0, 0, 0, fixed(*D50),
    )  # fmt: skip
    return header.ljust(128, b"\0") + table + body


P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROFILES = {
    "Display P3": profile("Display P3", b"RGB ", SRGB_CURVE, P3),
    "Adobe RGB": profile("Adobe RGB (1998)", b"RGB ", (2.19921875,), ADOBE),
}
GRAY = profile("Gray, gamma 1.0", b"GRAY", (1.0,))
