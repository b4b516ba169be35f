"""Formats are recognised by content, and a truncated file is an error."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from cvbatch.errors import ImageError
from cvbatch.images.decode import DecodedImage, decode

WIDTH, HEIGHT = 56, 40
PHOTO = Image.fromarray(np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
GREY = PHOTO.convert("L")


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(data: bytes, **options: Any) -> DecodedImage:
    return decode(data, max_pixels=10**6, **options)


def refused(data: bytes, kind: str) -> str:
    with pytest.raises(ImageError) as caught:
        decoded(data)
    assert caught.value.kind == kind
    return str(caught.value)


JPEGS = {
    "baseline": encode(PHOTO, "JPEG"),
    "progressive": encode(PHOTO, "JPEG", progressive=True),
    "grey": encode(GREY, "JPEG"),
    "restarts": encode(PHOTO, "JPEG", restart_marker_rows=1),
}


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.9, 0.99, -20, -2, -1])
@pytest.mark.parametrize("name", JPEGS)
def test_a_truncated_jpeg_is_an_error(name: str, keep: float) -> None:
    data = JPEGS[name]
    refused(data[: int(keep * len(data)) if keep > 0 else int(keep)], "TruncatedImage")


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_ends_in_zeros_is_truncated(name: str) -> None:
    data = JPEGS[name]
    refused(data[: len(data) // 2].ljust(len(data), b"\0"), "TruncatedImage")


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_photo() -> None:
    data = encode(PHOTO, "JPEG", exif=b"Exif\0\0II\x2a\0\x08\0\0\0\0\0\0\0\0\0" + JPEGS["grey"])
    decoded(data)
    refused(data[: len(data) - 400].ljust(len(data), b"\0"), "TruncatedImage")


def test_bytes_after_the_end_are_ignored() -> None:
    for kind in ("JPEG", "PNG"):
        decoded(encode(PHOTO, kind) + b"more" * 99)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, -20])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_other_formats_truncated(kind: str, keep: float) -> None:
    data = encode(PHOTO, kind)
    refused(data[: int(keep * len(data)) if keep > 0 else int(keep)], "TruncatedImage")


@pytest.mark.parametrize("cut", [1, 4, 8, 12, 16])
def test_a_png_needs_its_end(cut: int) -> None:
    refused(encode(PHOTO, "PNG")[:-cut], "TruncatedImage")


def test_damage_inside_a_file() -> None:
    data = bytearray(encode(PHOTO, "PNG"))
    data[len(data) // 2] ^= 0xFF
    refused(bytes(data), "CorruptImage")


def test_an_empty_file() -> None:
    assert "0 bytes" in refused(b"", "EmptyFile")


@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"not a photo\n" * 9, "text that begins with 'not a photo"),
        ("größe ".encode() * 60, "text that begins with 'größe"),
        (b"<!DOCTYPE html><p>404", "text that begins with '<!DOCTYPE"),
        (b"BM is no bitmap by itself", "text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"PK\x03\x04rest", "zip"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "sound"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41isom", "video"),
        (b"P6\n2 2\n255\n" + bytes(12), "23 bytes that begin with 50 36"),
        (b"\xff\xd8", "2 bytes that begin with ff d8"),
        (bytes(50), "50 zero bytes"),
    ],
)
def test_other_content_is_described(data: bytes, guess: str) -> None:
    assert guess in refused(data, "UnknownFormat")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_without_the_extra_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert refused(HEIC, "MissingExtra") == "HEIC images need the extra: pip install 'cvbatch[heif]'"


def test_heic_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(PHOTO).save(stream, quality=-1, chroma=444)
    result = decoded(stream.getvalue())
    assert (result.format, result.width, result.height) == ("heif", WIDTH, HEIGHT)
    refused(stream.getvalue()[:-50], "TruncatedImage")


def test_a_broken_exif_block_of_an_avif_costs_the_metadata_only() -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Maker"
    whole = encode(PHOTO, "AVIF", exif=tags)
    result = decoded(whole.replace(b"MM\0\x2a", b"XX\0\x2a"), exif=True)
    assert result.exif is not None
    assert result.exif.camera is None
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(decoded(whole).image))


def test_a_heic_is_never_replaced_by_its_thumbnail() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = encode(PHOTO.resize((400, 300)), "HEIF", thumbnails=[128])
    whole, reduced = decoded(data), decoded(data, min_decode_side=90)
    assert reduced.image.size == (400, 300)
    np.testing.assert_array_equal(np.asarray(reduced.image), np.asarray(whole.image))
