import io
import json
import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import torch
from color_profiles import GRAY, PROFILES
from PIL import Image, ImageCms, TiffImagePlugin

from rissole.config import RissoleError
from rissole.data import decoding, images, kinds, png


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG signature, IHDR and a short IDAT; no row of pixels ever follows."""

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
    lazy = Image.open(io.BytesIO(png_header(7_000, 6_000)))
    with pytest.raises(RissoleError, match="too large"):
        images.load_image(lazy)


def test_more_bytes_than_the_limit_are_refused():
    data = encoded(noise())
    with pytest.raises(RissoleError, match="larger than"):
        images.load_image(io.BytesIO(data), caps=images.Caps(bytes=len(data) - 1))
    caps = images.Caps(bytes=len(data))
    assert images.load_image(io.BytesIO(data), caps=caps).size == (64, 48)


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


# Large pictures of which a small square is wanted


@pytest.fixture(scope="module")
def phone_photo() -> bytes:
    """Forty-eight megapixels, of which the left half is red."""
    photo = Image.new("RGB", (8064, 6048), "blue")
    photo.paste("red", (0, 0, 4032, 6048))
    return encoded(photo, "JPEG", quality=50)


def test_a_phones_jpeg_is_decoded_at_a_fraction(phone_photo):
    with pytest.raises(RissoleError, match="8064 x 6048 pixels, at most 40 million"):
        images.load_image(phone_photo)
    tracemalloc.start()  # knows what numpy holds; Pillow's own memory shows in the size below
    assert images.load_image(phone_photo, 128, images.VISITOR).size == (1008, 756)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    square = images.load_square(phone_photo, 128, images.VISITOR)
    np.testing.assert_allclose(square.getpixel((10, 64)), (255, 0, 0), atol=4)
    np.testing.assert_allclose(square.getpixel((118, 64)), (0, 0, 255), atol=4)


def test_a_progressive_jpeg_counts_whole():
    data, few = noise(1600, 1200), images.Caps(decoded=1_000_000)
    assert images.load_image(encoded(data, "JPEG"), 16, few).size == (67, 50)
    with pytest.raises(RissoleError, match="1600 x 1200 pixels, at most 1 million"):
        images.load_image(encoded(data, "JPEG", progressive=True), 16, few)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK"])
def test_reduced_in_strips_is_the_whole_reduced(monkeypatch, mode):
    gray = np.linspace(0, 1, 300)[:, None] * np.linspace(1, 0, 240)
    if mode in ("I;16", "I", "F"):
        values = gray if mode == "F" else gray * 65535
        image = Image.fromarray(values.astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    else:
        image = Image.fromarray((gray * 255).astype(np.uint8)).convert("RGB").convert(mode)
    monkeypatch.setattr(decoding, "STRIP", 240 * 16)
    small = images.load_image(image, 16)
    assert small.size == (48, 60)
    whole = np.asarray(images.load_image(image).reduce(5), dtype=int)
    assert abs(np.asarray(small) - whole).max() <= 1


# Colors


@pytest.mark.parametrize("space", PROFILES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_color_profiles_are_brought_to_srgb(space, kind):
    shown = Image.new("RGB", (16, 16), (180, 90, 60))
    own = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[space]))
    stored = ImageCms.profileToProfile(shown, ImageCms.createProfile("sRGB"), own)
    apart = abs(np.asarray(stored, dtype=int) - np.asarray(shown)).max()
    assert apart > 8  # another color for who looks at the numbers alone
    data = encoded(stored, kind, icc_profile=PROFILES[space])
    for source in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_allclose(images.load_image(source).getpixel((5, 5)),
                                   (180, 90, 60), atol=3)  # fmt: skip


def test_gray_of_another_curve_is_brought_to_srgb():
    for mode in ("L", "LA"):  # a fifth of the light
        data = encoded(Image.new("L", (4, 4), 51).convert(mode), icc_profile=GRAY)
        assert abs(images.load_image(data).getpixel((0, 0))[0] - 124) <= 1


def test_a_profile_that_is_none_counts_as_none():
    shown = noise()
    for profile in (b"no profile", PROFILES["Display P3"][:200], b"\0" * 3000):
        data = encoded(shown, icc_profile=profile)
        assert images.load_image(data).tobytes() == shown.tobytes()
    gray = encoded(shown.convert("L"), icc_profile=PROFILES["Display P3"])
    assert images.load_image(gray).mode == "RGB"


# What other programs make of a PNG


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "packed iTXt"])
@pytest.mark.parametrize("before", [True, False])
def test_a_recipe_is_found_wherever_and_however_it_is_stored(kind, before):
    recipe = {"seed": 7, "note": "größer"}
    text = json.dumps(recipe, ensure_ascii="iTXt" not in kind).encode()
    content = {
        "tEXt": b"rissole\0" + text,
        "zTXt": b"rissole\0\0" + zlib.compress(text),
        "iTXt": b"rissole\0\0\0\0\0" + text,
        "packed iTXt": b"rissole\0\1\0de\0Rezept\0" + zlib.compress(text),
    }[kind]
    data = encoded(noise())
    place = 33 if before else len(data) - 12  # behind IHDR, or before IEND
    data = data[:place] + chunk(kind[-4:].encode(), content) + data[place:]
    assert images.read_recipe(data) == recipe
    assert images.load_image(data).tobytes() == noise().tobytes()


def test_long_texts_and_profiles_do_not_spoil_a_png():
    data = encoded(noise())
    for kind, content in (
        (b"tEXt", b"Comment\0" + b"x" * 3_000_000),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 9_000_000)),
        (b"iCCP", b"mine\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"zTXt", b"rissole\0\0" + zlib.compress(b"[" * 9_000_000)),
    ):
        long = data[:33] + chunk(kind, content) + data[33:]
        assert images.load_image(long).tobytes() == noise().tobytes()
        assert images.read_recipe(long) is None


@pytest.fixture
def inflated(monkeypatch):
    """Sizes of all that is inflated of PNG files, as it goes on."""
    sizes, inflate = [], png._inflated

    def counted(packed, limit):
        data = inflate(packed, limit)
        sizes.append(limit if data is None else len(data))
        return data

    monkeypatch.setattr(png, "_inflated", counted)
    return sizes


def test_of_a_png_full_of_packed_parts_a_handful_is_inflated(inflated):
    packed = zlib.compress(b"{" + b" " * (png.MAX_TEXT - 2) + b"}")
    parts = [(b"zTXt", key + b"\0\0" + packed) for key in (b"rissole", *png.ORIENTING)]
    parts += [(b"iTXt", b"rissole-query\0\1\0\0\0" + packed)]
    parts += [(b"iCCP", b"mine\0\0" + zlib.compress(bytes(png.MAX_PROFILE)))]
    data = encoded(noise())
    data = data[:33] + b"".join(chunk(*part) for part in parts * 50) + data[33:]
    assert images.read_recipe_and_query(data) == ({}, None)
    assert len(inflated) == len(parts)
    assert sum(inflated) <= 5 * png.MAX_TEXT + png.MAX_PROFILE
    assert images.load_image(data).tobytes() == noise().tobytes()


def test_of_several_recipes_the_last_intact_one_counts(inflated):
    data = encoded(noise())
    first, second = (
        chunk(b"zTXt", b"rissole\0\0" + zlib.compress(b'{"seed": %d}' % seed)) for seed in (1, 2)
    )
    query = chunk(b"tEXt", b"rissole-query\x0017")
    broken = second[:-1] + bytes([second[-1] ^ 1])
    data = data[:33] + query + first + data[33:-12] + second + broken + data[-12:]
    assert images.read_recipe_and_query(data) == ({"seed": 2}, 17)
    assert len(inflated) == 1


def test_of_texts_that_cannot_be_unpacked_a_few_are_tried(inflated):
    data = encoded(noise())
    good = chunk(b"zTXt", b"rissole\0\0" + zlib.compress(b'{"seed": 1}'))
    packed = b"rissole\0\0" + zlib.compress(bytes(png.MAX_TEXT + 1))
    for damaged, found in ((png.TRIES - 1, {"seed": 1}), (png.TRIES, None), (50, None)):
        inflated.clear()
        more = chunk(b"zTXt", packed) * damaged
        assert images.read_recipe(data[:33] + good + more + data[33:]) == found
        assert len(inflated) == png.TRIES


def test_a_gif_is_not_opened_to_look_for_a_recipe(monkeypatch):
    # Pillow collects all its comments to open it, in time that grows with their square
    monkeypatch.setattr(images.Image, "open", None)
    assert images.read_recipe(encoded(noise(), "GIF")) is None


def test_a_png_of_too_many_parts_is_refused():
    data = encoded(noise())
    with pytest.raises(RissoleError, match="known format"):
        images.load_image(data[:33] + chunk(b"abCd", b"") * 100_000 + data[33:])


def test_which_way_is_up_is_read_from_texts_of_a_png():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(Image.new("RGB", (60, 20)))
    data = data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + data[33:]
    assert images.load_image(data).size == (20, 60)


# What callers have


def test_arrays_and_tensors_are_pictures():
    shown = noise()
    pixels = np.asarray(shown)
    tensor = images.to_tensor(shown)
    for source in (
        pixels,
        pixels.transpose(2, 0, 1),
        pixels[None],
        pixels / 255,
        pixels.astype(np.int64),
        pixels.astype(np.uint16) * 257,
        pixels.astype(np.float32),
        np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
        tensor,
        tensor[0].half(),
        (tensor[0] + 1) / 2,
        torch.from_numpy(pixels.copy()),
    ):
        close = np.asarray(images.load_image(source), dtype=int) - pixels
        assert abs(close).max() <= 1
    mask = pixels[:, :, 0] > 100
    assert images.load_image(mask).getpixel((0, 0)) == (255 * int(mask[0, 0]),) * 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "a picture must be a path, bytes, .* not 3"),
        ({"a": 1}, "a picture must be"),
        (None, "a picture must be"),
        (io.StringIO("text"), "binary file"),
        (np.zeros((2, 5, 7, 3)), "not 2 x 5 x 7 x 3"),
        (np.zeros(9), "not 9"),
        (np.zeros((0, 5)), "must hold numbers"),
        (np.array([["a"]]), "must hold numbers"),
        (np.full((4, 4), np.nan), "values of a picture"),
        (np.full((4, 4), -7), "values of a picture"),
        (np.zeros((7_000, 6_000), np.uint8), "too large"),
    ],
    ids=range(11),
)
def test_what_is_no_picture_is_one_line(source, words):
    with pytest.raises(RissoleError, match=words) as error:
        images.load_image(source)
    assert len(one_line(error)) < 200


def test_the_callers_picture_stays_as_it_is():
    lazy = Image.open(io.BytesIO(encoded(Image.new("RGB", (1200, 900)), "JPEG")))
    assert images.load_square(lazy, 32).size == (32, 32)
    assert lazy.size == (1200, 900)


# What files are


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40, "a HEIC picture.*pillow-heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + b"\0" * 40, "a film"),
        (b"\xff\x0a" + b"\0" * 40, "a JPEG XL picture.*PNG or JPEG"),
        (b"PK\3\4" + b"\0" * 40, "a ZIP archive.*unpack it"),
        (b"%PDF-1.7", "a PDF document"),
        (b'<?xml version="1.0"?><svg>', "an SVG drawing"),
        (b"<!DOCTYPE html><p>404", "a page of the web"),
        (b"BMW is not a bitmap, however it begins", "text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("größer".encode()[:3], "text"),
        (b"\x93\x01\0\xff" * 9, "is not a picture"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_else_a_file_may_be_is_said(data, words, monkeypatch):
    monkeypatch.setattr(kinds, "heif_at_hand", lambda: False)
    with pytest.raises(RissoleError, match=words) as error:
        images.load_image(data, caps=images.OWN_FILES)
    one_line(error)


def test_a_raw_file_that_passes_for_tiff_is_not_its_thumbnail():
    thumbnail = TiffImagePlugin.ImageFileDirectory_v2()
    thumbnail[0x00FE] = 1
    with pytest.raises(RissoleError, match="a camera's raw file"):
        images.load_image(encoded(noise(), "TIFF", tiffinfo=thumbnail))


@pytest.mark.parametrize(("kind", "caps"), [("AVIF", images.CALLER), ("HEIF", images.OWN_FILES),
                                            ("JPEG2000", images.OWN_FILES),
                                            ("PPM", images.OWN_FILES)])  # fmt: skip
def test_formats_of_cameras_and_of_research_are_read(kind, caps):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(Image.new("RGB", (40, 30), (200, 100, 50)), kind)
    np.testing.assert_allclose(images.load_image(data, caps=caps).getpixel((5, 5)),
                               (200, 100, 50), atol=6)  # fmt: skip
