"""Windows of a picture are the same pixels as those of the picture decoded as a whole."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageOps

from cvbatch.errors import ImageError
from cvbatch.images import jpeg_windows, row_bands
from cvbatch.images import windows as windows_module
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.decode import decode
from cvbatch.images.file_view import FileView
from cvbatch.images.png_chunks import SIGNATURE, PngChunks, read_png_chunks
from cvbatch.images.tiles import Tiles, cut_windows
from cvbatch.images.windows import Window, WindowReader, open_windows
from cvbatch.testing import generate_image
from tests.images.profiles import SWAPPED, rgb_profile

SIZE = (31, 22)
PIXELS = np.random.default_rng(3).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
WINDOWS = [Window(0, 0, 22, 22), Window(3, 1, 4, 9), Window(20, 19, 2, 3), Window(21, 0, 1, 1)]


@dataclass
class Stored:
    orientation: int
    size = SIZE
    exif = None

    def read_stored(self, window: Window) -> RgbArray:
        top, left, height, width = window
        return PIXELS[top : top + height, left : left + width]


def encoded(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_turned_picture_are_parts_of_the_upright_one(orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    image = Image.fromarray(PIXELS)
    image.info["exif"] = tags.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image))
    reader = WindowReader(Stored(orientation), "tiff")
    assert (reader.height, reader.width) == upright.shape[:2]
    for top, left, height, width in WINDOWS:
        if top + height <= reader.height and left + width <= reader.width:
            window = reader.read(top, left, height, width)
            assert window.flags.c_contiguous
            np.testing.assert_array_equal(window, upright[top : top + height, left : left + width])


@pytest.mark.parametrize(("orientation", "first"), [(1, 0), (3, 3), (6, 1), (8, 2)])
def test_reading_order_follows_the_stored_rows(orientation: int, first: int) -> None:
    reader = WindowReader(Stored(orientation), "tiff")
    corners = [Window(row, column, 1, 1) for row in (0, reader.height - 1) for column in (0, reader.width - 1)]
    assert reader.in_reading_order(reversed(corners))[0] == corners[first]


def test_other_formats_are_decoded_as_a_whole() -> None:
    data = encoded(format="WEBP", lossless=True)
    reader = open_windows(data, max_pixels=10**6)
    assert (reader.format, reader.is_whole_in_memory) == ("webp", True)
    whole = np.asarray(decode(data, max_pixels=10**6).image)
    np.testing.assert_array_equal(reader.read(5, 6, 7, 8), whole[5:12, 6:14])


@pytest.mark.parametrize("window", [(0, 0, 23, 1), (0, 30, 1, 2), (-1, 0, 2, 2), (0, 0, 0, 1)])
def test_windows_outside_are_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected a window inside of 22 × 31 pixels, got top"):
        WindowReader(Stored(1), "tiff").read(*window)


def test_errors_are_those_of_decoding() -> None:
    with pytest.raises(ImageError, match="more than 100") as caught:
        open_windows(encoded(format="WEBP"), max_pixels=100)
    assert caught.value.kind == "TooManyPixels"
    with pytest.raises(ImageError, match="0 bytes"):
        open_windows(b"", max_pixels=100)


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_bands, "BAND_PIXELS", 1500)


def converted(mode: str) -> Image.Image:
    image = generate_image(90, 77)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 255)
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
        return image
    return image.convert(mode)


def assert_windows_equal(data: bytes, *, in_parts: bool = True, **options: bool) -> None:
    whole = np.asarray(decode(data, max_pixels=10**6, **options).image)  # type: ignore[arg-type]
    reader = open_windows(data, max_pixels=10**6, **options)  # type: ignore[arg-type]
    assert reader.is_whole_in_memory is not in_parts
    assert (reader.height, reader.width) == whole.shape[:2]
    windows = cut_windows(Tiles(size=30, overlap=0.3), (reader.width, reader.height))
    for top, left, height, width in [*reader.in_reading_order(windows), windows[0]]:
        expected = whole[top : top + height, left : left + width]
        np.testing.assert_array_equal(reader.read(top, left, height, width), expected)


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_windows_of_pngs(mode: str) -> None:
    stream = io.BytesIO()
    converted(mode).save(stream, "PNG")
    assert_windows_equal(stream.getvalue())


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("colours", [2, 4, 16])
def test_windows_of_pngs_with_small_palettes(colours: int) -> None:
    stream = io.BytesIO()
    generate_image(90, 77).quantize(colours).save(stream, "PNG", bits=colours.bit_length() - 1, transparency=1)
    assert_windows_equal(stream.getvalue())


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}, {"keep_rgb": True}, {"quality": 20}],
    ids=str,
)
def test_windows_of_jpegs(options: dict[str, int]) -> None:
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, "JPEG", **options)
    assert_windows_equal(stream.getvalue())


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize(("mode", "in_parts"), [("L", True), ("CMYK", False)])
def test_windows_of_jpegs_of_other_colours(mode: str, in_parts: bool) -> None:
    stream = io.BytesIO()
    converted(mode).save(stream, "JPEG")
    assert_windows_equal(stream.getvalue(), in_parts=in_parts)


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_turned_files(kind: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, kind, exif=tags)
    assert_windows_equal(stream.getvalue())


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_windows_of_profiles(kind: str) -> None:
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, kind, icc_profile=rgb_profile(SWAPPED, 1.8))
    assert_windows_equal(stream.getvalue(), icc=True)


def read_down(data: bytes) -> None:
    reader = open_windows(data, max_pixels=10**6)
    for top in range(reader.height):
        reader.read(top, 0, 1, reader.width)


@pytest.mark.usefixtures("small_bands")
def test_damage_is_found_as_by_decoding() -> None:
    stream = io.BytesIO()
    generate_image(400, 300).save(stream, "JPEG")
    jpeg = stream.getvalue()
    middle = len(jpeg) // 2
    for damaged in (jpeg[:middle], jpeg[:middle] + jpeg[-2:], jpeg[:middle] + bytes(2000) + jpeg[middle + 2000 :]):
        with pytest.raises(ImageError) as expected:
            decode(damaged, max_pixels=10**6)
        with pytest.raises(ImageError) as caught:
            read_down(damaged)
        assert (str(caught.value), caught.value.kind) == (str(expected.value), expected.value.kind)
    read_down(jpeg[:-2] + bytes(300) + jpeg[-2:])  # padding, as cameras write it


@pytest.mark.usefixtures("small_bands")
def test_pngs_with_missing_rows_are_refused() -> None:
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, "PNG")
    chunks = read_png_chunks(stream.getvalue())
    packed = zlib.compress(zlib.decompress(b"".join(chunks.image_data))[: 271 * 50])
    with pytest.raises(ImageError, match="its pixels \\(IDAT\\) are damaged, or too few"):
        read_down(png_file(chunks, packed))


def png_file(chunks: PngChunks, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", chunks.width, chunks.height, chunks.bit_depth, chunks.colour_type, 0, 0, 0)
    data = b""
    for name, content in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return SIGNATURE + data


def test_whole_pictures_keep_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, "JPEG")
    assert open_windows(stream.getvalue(), max_pixels=10_000, max_whole_pixels=100).width == 90
    monkeypatch.setattr(jpeg_windows, "has_libvips", lambda: False)
    monkeypatch.setattr(windows_module, "has_libvips", lambda: False)
    assert open_windows(stream.getvalue(), max_pixels=10_000).is_whole_in_memory
    with pytest.raises(ImageError, match=r"more than 100; .* or read JPEGs in parts: pip install 'cvbatch\[tiles\]'"):
        open_windows(stream.getvalue(), max_pixels=10_000, max_whole_pixels=100)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG"])
def test_views_of_files_give_the_same_windows(kind: str) -> None:
    stream = io.BytesIO()
    generate_image(90, 77).save(stream, kind)
    data = stream.getvalue()
    whole, view = (open_windows(each, max_pixels=10**6, exif=True) for each in (data, FileView(memoryview(data))))
    assert (view.format, view.width, view.height, view.exif) == (whole.format, 90, 77, whole.exif)
    assert not view.is_whole_in_memory
    np.testing.assert_array_equal(view.read(5, 6, 70, 80), whole.read(5, 6, 70, 80))


@pytest.mark.parametrize("data", [b"", b"text", b"II*\0", b"II*\0\x08\0\0\0\xff\xff"])
def test_views_of_other_files_have_the_same_errors(data: bytes) -> None:
    errors = []
    for each in (data, FileView(memoryview(data))):
        with pytest.raises(ImageError) as caught:
            open_windows(each, max_pixels=10**6)
        errors.append((caught.value.kind, str(caught.value)))
    assert errors[0] == errors[1]
