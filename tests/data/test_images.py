import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from rissole.config import RissoleError
from rissole.data import images


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG signature, IHDR and a short IDAT; no row of pixels ever follows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text
    assert len(text.splitlines()) == 1
    return text


BAD = {
    "truncated.png": (encoded(noise())[:2000], "damaged"),
    "truncated.jpg": (encoded(noise(), "JPEG")[:700], "damaged"),
    "flipped.png": (encoded(noise())[:90] + b"\0" * 40 + encoded(noise())[130:], "damaged"),
    "empty.png": (b"", "empty"),
    "text.png": (b"I am no picture at all\n" * 40, "known format"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "known format"),
    "signature.png": (b"\x89PNG\r\n\x1a\n", "known format"),
    "huge.png": (png_header(50_000, 50_000), "too large"),
    "large.png": (png_header(10_000, 10_000), "10000 x 10000"),
    "icon.ico": (encoded(noise(), "ICO"), "known format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_clear_line(tmp_path, name):
    data, words = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RissoleError) as error:
        images.load_image(path)
    assert words in one_line(error)
    assert name in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("name", ["huge.png", "large.png"])
def test_size_is_refused_before_pixels_are_decoded_and_without_warning(monkeypatch, name):
    def decode(*_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RissoleError, match="too large"):
            images.load_image(BAD[name][0])


def test_oversized_pil_image_is_refused():
    lazy = Image.open(io.BytesIO(png_header(8_000, 8_000)))
    with pytest.raises(RissoleError, match="too large"):
        images.load_image(lazy)


def test_more_bytes_than_the_limit_are_refused(monkeypatch):
    data = encoded(noise())
    monkeypatch.setattr(images, "MAX_BYTES", len(data) - 1)
    with pytest.raises(RissoleError, match="larger than"):
        images.load_image(io.BytesIO(data))
    monkeypatch.setattr(images, "MAX_BYTES", len(data))
    assert images.load_image(io.BytesIO(data)).size == (64, 48)


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in {
        tmp_path / "missing.png": "no such file: missing.png",
        tmp_path: "not a file",
        tmp_path / "pipe": "not a file",
        tmp_path / ("x" * 300): "cannot read",
        tmp_path / "two\nlines.png": r"no such file: two\?lines.png",
    }.items():
        with pytest.raises(RissoleError, match=words) as error:
            images.load_image(path)
        one_line(error)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_accepted_format_and_source_gives_the_same_rgb(tmp_path, kind):
    flat = Image.new("RGB", (40, 30), (200, 100, 50))
    data = encoded(flat, kind)
    path = tmp_path / "picture.bin"  # the content counts, not the name
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data), Image.open(path)):
        image = images.load_image(source)
        assert (image.mode, image.size, image.info) == ("RGB", (40, 30), {})
        np.testing.assert_allclose(np.asarray(image)[5, 5], (200, 100, 50), atol=4)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stored = Image.new("RGB", (60, 20), "black")
    stored.paste("white", (0, 0, 20, 20))
    image = images.load_image(encoded(stored, "JPEG", exif=exif, quality=95))
    assert image.size == (20, 60)
    assert image.getpixel((10, 5))[0] > 240
    assert image.getpixel((10, 50))[0] < 15


def test_damaged_exif_does_not_spoil_the_picture(recwarn):
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert images.load_image(data).size == (64, 48)
    assert not recwarn


def test_sixteen_bit_gray_keeps_its_tones():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    image = images.load_image(encoded(Image.fromarray(ramp)))
    np.testing.assert_allclose(np.asarray(image)[0, :, 0], np.arange(256), atol=1)


def test_dark_sixteen_bit_gray_is_not_stretched():
    dark = np.full((8, 8), 257 * 10, np.uint16)
    assert images.load_image(encoded(Image.fromarray(dark))).getpixel((0, 0)) == (10, 10, 10)


def test_float_tiff_keeps_its_tones():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    image = images.load_image(encoded(Image.fromarray(ramp), "TIFF"))
    np.testing.assert_allclose(np.asarray(image)[0, :, 0], np.arange(256), atol=1)


def test_alpha_lies_over_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 128), (4, 0, 8, 8))
    for data in (encoded(clear), encoded(clear.convert("LA"))):
        image = images.load_image(data)
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert abs(image.getpixel((6, 0))[0] - 127) <= 1


def test_palette_transparency_lies_over_white():
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    data = encoded(palette, transparency=0)
    assert images.load_image(data).getpixel((0, 0)) == (255, 255, 255)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (10, 10), color) for color in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        red, green, blue = images.load_image(data).getpixel((5, 5))
        assert red > 250
        assert green + blue < 10


def test_cmyk_and_one_bit():
    assert images.load_image(encoded(noise().convert("CMYK"), "JPEG")).mode == "RGB"
    assert images.load_image(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0))[0] == 255


def test_square_keeps_the_center():
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))
    for image in (wide, wide.rotate(90, expand=True)):
        cut = images.square(image, 16)
        assert cut.size == (16, 16)
        assert np.asarray(cut).min() == 255


def test_tensor_round_trip_is_exact():
    pair = [noise(seed=1), noise(seed=2)]
    tensor = images.to_tensor(pair)
    assert tensor.shape == (2, 3, 48, 64)
    assert tensor.dtype == torch.float32
    assert -1 <= tensor.min() < -0.9 < 0.9 < tensor.max() <= 1
    for before, after in zip(pair, images.to_pil(tensor), strict=True):
        assert before.tobytes() == after.tobytes()
    assert torch.equal(images.to_tensor(pair[0])[0], tensor[0])


def test_to_pil_clamps_and_refuses_nan():
    image = images.to_pil(torch.tensor([-3.0, 0.0, 3.0]).view(1, 3, 1, 1))[0]
    assert image.getpixel((0, 0)) == (0, 128, 255)
    with pytest.raises(RissoleError, match="not finite"):
        images.to_pil(torch.full((1, 3, 2, 2), float("nan")))


def test_png_carries_its_recipe_and_is_deterministic(tmp_path):
    recipe = {"seed": 7, "order": "parallel", "neighbors": [1, 2], "note": "größer"}
    path, buffer = tmp_path / "a.png", io.BytesIO()
    images.save_png(noise(), path, recipe)
    images.save_png(noise(), buffer, dict(reversed(recipe.items())))
    assert path.read_bytes() == buffer.getvalue()
    assert images.read_recipe(path) == recipe
    assert images.load_image(path).tobytes() == noise().tobytes()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_pictures_without_a_usable_recipe_have_none():
    assert images.read_recipe(encoded(noise())) is None
    for text in ("not json", "[1, 2]", "[" * 100_000):
        info = images.PngImagePlugin.PngInfo()
        info.add_text(images.RECIPE_KEY, text)
        assert images.read_recipe(encoded(noise(), pnginfo=info)) is None
    with pytest.raises(RissoleError, match="known format"):
        images.read_recipe(b"no picture")


def test_saving_where_nothing_can_be_written(tmp_path):
    with pytest.raises(RissoleError, match="cannot write") as error:
        images.save_png(noise(), tmp_path / "missing" / "cat.png")
    one_line(error)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cat.png"
    path.write_bytes(b"old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(RissoleError, match="No space left"):
        images.save_png(noise(), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["cat.png"]


def test_contact_sheet_places_images_in_rows():
    colors = [(10, 0, 0), (20, 0, 0), (30, 0, 0)]
    sheet = images.contact_sheet([Image.new("RGB", (4, 3), c) for c in colors], columns=2)
    assert sheet.size == (10, 8)
    assert [sheet.getpixel(at) for at in ((0, 0), (6, 0), (0, 5))] == colors
    assert sheet.getpixel((4, 0)) == (255, 255, 255)
