"""Every kind of file decodes to the documented RGB, or is an error with a name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from cvbatch.errors import ImageError
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.decode import DecodedImage, decode
from tests.conftest import make_photo

WIDTH, HEIGHT = 56, 40
PIXELS = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
GREY = PHOTO.convert("L")
LIMIT = 178_000_000
BROKEN_EXIF = {
    "no header": b"Exif\0\0garbage!",
    "no directory": b"Exif\0\0II\x2a\0\xff\xff\xff\x7f",
    "cut directory": b"Exif\0\0II\x2a\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01",
    "one byte": b"Exif\0\0I",
}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def decoded(data: bytes, **options: Any) -> DecodedImage:
    result = decode(data, max_pixels=LIMIT, **options)
    assert result.image.mode == "RGB"
    assert result.image.size == (result.width, result.height)
    return result


def refused(data: bytes, kind: str, *, max_pixels: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.kind == kind
    return str(caught.value)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, body: bytes, *, bits: int = 8, colour: int = 2, interlaced: bool = False) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def interlaced_png(image: npt.NDArray[np.uint8]) -> bytes:
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, step_y, step_x in passes for row in image[y::step_y, x::step_x]]
    return png(image.shape[1], image.shape[0], b"".join(rows), interlaced=True)


def over_white(image: Image.Image) -> npt.NDArray[np.float64]:
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    blended: npt.NDArray[np.float64] = rgba[..., :3] * alpha + 255 * (1 - alpha)
    return blended


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("png", encode(PHOTO, "PNG")),
        ("png", interlaced_png(PIXELS)),
        ("webp", encode(PHOTO, "WEBP", lossless=True)),
        ("tiff", encode(PHOTO, "TIFF")),
        ("tiff", encode(PHOTO, "TIFF", compression="tiff_lzw")),
        ("tiff", encode(PHOTO, "TIFF", big_tiff=True)),
        ("bmp", encode(PHOTO, "BMP")),
        ("jpeg2000", encode(PHOTO, "JPEG2000")),
        ("jpeg2000", encode(PHOTO, "JPEG2000", no_jp2=True)),
    ],
)
def test_lossless_files_are_decoded_exactly(kind: str, data: bytes) -> None:
    result = decoded(data)
    assert (result.format, result.width, result.height) == (kind, WIDTH, HEIGHT)
    np.testing.assert_array_equal(pixels(result.image), PIXELS)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("jpeg", encode(PHOTO, "JPEG")),
        ("jpeg", encode(PHOTO, "JPEG", progressive=True)),
        ("jpeg", encode(GREY, "JPEG")),
        ("jpeg", encode(PHOTO.convert("CMYK"), "JPEG")),
        ("webp", encode(PHOTO, "WEBP")),
        ("gif", encode(PHOTO, "GIF")),
        ("avif", encode(PHOTO, "AVIF")),
        ("tiff", encode(PHOTO, "TIFF", compression="jpeg")),
        ("png", encode(PHOTO.quantize(16), "PNG")),
        ("png", encode(PHOTO.convert("1"), "PNG")),
        ("bmp", encode(GREY, "BMP")),
        ("tiff", encode(PHOTO.convert("CMYK"), "TIFF")),
    ],
)
def test_other_files_are_decoded_as_by_pillow(kind: str, data: bytes) -> None:
    result = decoded(data)
    assert result.format == kind
    with Image.open(io.BytesIO(data)) as plain:
        np.testing.assert_array_equal(pixels(result.image), pixels(plain.convert("RGB")))


def test_every_16_bit_grey_is_divided_by_257_and_rounded() -> None:
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(np.arange(65536) / 257).astype(np.uint8).reshape(256, 256)
    for data in (encode(Image.fromarray(grey), kind) for kind in ("PNG", "TIFF")):
        np.testing.assert_array_equal(pixels(decoded(data).image), np.repeat(expected[..., None], 3, axis=2))


def test_16_bit_grey_of_either_byte_order() -> None:
    big = Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xff")
    assert pixels(decoded(encode(big, "TIFF")).image)[0, :, 0].tolist() == [round(0x1234 / 257), 255]


def test_16_bit_grey_that_is_transparent_turns_white() -> None:
    grey = Image.fromarray(np.array([[257, 514]], dtype=np.uint16))
    assert pixels(decoded(encode(grey, "PNG", transparency=257)).image)[0, :, 0].tolist() == [255, 2]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_blended_over_white(mode: str, kind: str) -> None:
    ramp = np.random.default_rng(1).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    image = Image.fromarray(ramp).convert(mode)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    result = pixels(decoded(encode(image, kind, **options)).image)
    np.testing.assert_allclose(result, over_white(image), atol=1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind: str) -> None:
    image = PHOTO.quantize(16)
    entry = image.getpixel((0, 0))
    expected = np.where(np.asarray(image)[..., None] == entry, 255, pixels(image.convert("RGB")))
    np.testing.assert_array_equal(pixels(decoded(encode(image, kind, transparency=entry)).image), expected)


def test_a_palette_with_an_alpha_for_each_entry() -> None:
    image = PHOTO.quantize(4)
    alphas = bytes([0, 80, 160, 255])
    result = pixels(decoded(encode(image, "PNG", transparency=alphas)).image)
    alpha = np.frombuffer(alphas, np.uint8)[np.asarray(image)][..., None] / 255
    np.testing.assert_allclose(result, pixels(image.convert("RGB")) * alpha + 255 * (1 - alpha), atol=1)


def test_one_transparent_colour_is_white() -> None:
    data = encode(PHOTO, "PNG", transparency=tuple(int(part) for part in PIXELS[0, 0]))
    expected = np.where(np.equal(PIXELS, PIXELS[0, 0]).all(axis=2, keepdims=True), 255, PIXELS)
    np.testing.assert_array_equal(pixels(decoded(data).image), expected)


def test_one_transparent_grey_is_white() -> None:
    grey = pixels(GREY)
    expected = np.where(grey == grey[0, 0], 255, grey)
    result = pixels(decoded(encode(GREY, "PNG", transparency=int(grey[0, 0]))).image)
    np.testing.assert_array_equal(result, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("ink", "rgb"), [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_inverted_ink_of_adobe_jpegs(ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    data = encode(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(pixels(decoded(data).image)[4, 4], rgb, atol=2)


def test_ink_that_is_stored_as_luma_and_chroma() -> None:
    luma_chroma = tuple(255 - part for part in (76, 85, 255, 255))
    data = bytearray(encode(Image.new("CMYK", (8, 8), luma_chroma), "JPEG", quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    np.testing.assert_allclose(pixels(decoded(bytes(data)).image)[4, 4], (0, 255, 255), atol=3)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_an_agreed_range_are_refused(dtype: type[np.generic]) -> None:
    assert "which value is black" in refused(
        encode(Image.fromarray(np.ones((3, 4), dtype)), "TIFF"), "UnsupportedImage"
    )


def test_rgb_is_not_copied() -> None:
    assert convert_to_rgb(PHOTO) is PHOTO


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    data = encode(PHOTO, kind, exif=tags)
    result = decoded(data)
    with Image.open(io.BytesIO(data)) as plain:
        expected = ImageOps.exif_transpose(plain).convert("RGB")
    assert (result.width, result.height) == ((WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH))
    np.testing.assert_array_equal(pixels(result.image), pixels(expected))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(pixels(decoded(encode(PHOTO, "PNG", exif=tags)).image), PIXELS)


@pytest.mark.parametrize("block", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_costs_the_metadata_only(kind: str, block: bytes) -> None:
    result = decoded(encode(PHOTO, kind, exif=block), exif=True)
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    assert result.exif is not None
    assert result.exif.camera is None


def test_exif_is_read_only_on_request() -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker"
    data = encode(PHOTO, "JPEG", exif=tags)
    assert decoded(data).exif is None
    metadata = decoded(data, exif=True).exif
    assert metadata is not None
    assert metadata.camera == "Maker"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
def test_the_first_of_several_frames(kind: str) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue", "green")]
    result = decoded(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert result.format == ("jpeg" if kind == "MPO" else kind.lower())
    np.testing.assert_allclose(pixels(result.image)[6, 8], (255, 0, 0), atol=4)


def test_the_limit_is_checked_before_decoding() -> None:
    message = refused(png(60_000, 50_000, b""), "TooManyPixels")
    assert "60000 x 50000 = 3000000000 pixels" in message
    assert str(LIMIT) in message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_max_pixels_applies_and_not_the_limit_of_pillow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(PHOTO, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(data, max_pixels=WIDTH * HEIGHT).width == WIDTH
    refused(data, "TooManyPixels", max_pixels=WIDTH * HEIGHT - 1)
    refused(data, "TooManyPixels", max_pixels=WIDTH * HEIGHT // 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_large_jpeg_may_be_scaled_while_it_is_decoded(tmp_path: Path) -> None:
    data = make_photo(tmp_path / "large.jpg", size=(1600, 1000)).read_bytes()
    scaled = decode(data, max_pixels=LIMIT, min_decode_side=250)
    assert (scaled.width, scaled.height) == (1600, 1000)
    assert scaled.image.size == (400, 250)
    whole = decode(data, max_pixels=LIMIT)
    assert whole.image.size == (1600, 1000)
    small = np.asarray(whole.image.resize((400, 250), Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(scaled.image).astype(int) - small).mean() < 2


def test_scaling_respects_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = make_photo(tmp_path / "large.jpg", size=(1600, 1000), exif=exif).read_bytes()
    scaled = decode(data, max_pixels=LIMIT, min_decode_side=250)
    assert (scaled.width, scaled.height) == (1000, 1600)
    assert scaled.image.size == (250, 400)


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_other_formats_are_never_scaled(tmp_path: Path, suffix: str) -> None:
    data = make_photo(tmp_path / f"large.{suffix}", size=(800, 600)).read_bytes()
    assert decode(data, max_pixels=LIMIT, min_decode_side=50).image.size == (800, 600)
