"""Copies of PNGs hold the same pixels and colours, and nothing else of the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.png_copy import copy_png
from tests.images.pngs import SIGNATURE, chunk

HEADER_END = len(SIGNATURE) + 25


def saved(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:HEADER_END] + b"".join(chunks) + data[HEADER_END:] + b"secret behind the picture"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pixels_are_the_same_and_secrets_are_gone(mode: str) -> None:
    draw = np.random.default_rng(1)
    image = Image.fromarray(draw.integers(0, 65536, (9, 11)).astype(np.uint16))
    image = image if mode == "I;16" else Image.fromarray(draw.integers(0, 256, (9, 11, 3), np.uint8)).convert(mode)
    original = saved(image, **({"transparency": 3} if mode == "P" else {}))
    secrets = [chunk(name, b"secret") for name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"prVt")]
    copy = copy_png(with_chunks(original, *secrets), exif=None, xmp=None)
    assert copy == original
    assert b"secret" not in copy


def test_what_decides_the_colours_stays() -> None:
    colours = [chunk(b"gAMA", b"\0\0\xb1\x8f"), chunk(b"cICP", b"\x09\x10\0\1")]
    original = with_chunks(saved(Image.new("RGB", (3, 2))), *colours)
    copy = copy_png(original, exif=None, xmp=None)
    assert copy is not None
    assert all(part in copy for part in colours)


def test_a_wrong_checksum_stays_wrong() -> None:
    """Readers ignore such a profile; with a right checksum they would follow it."""
    wrong = chunk(b"iCCP", b"x\0\0profile", checksum=7)
    copy = copy_png(with_chunks(saved(Image.new("RGB", (3, 2))), wrong), exif=None, xmp=None)
    assert copy is not None
    assert wrong in copy


def test_new_metadata_is_read_by_others() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    copy = copy_png(saved(Image.new("RGB", (3, 2))), exif=tags.tobytes().removeprefix(b"Exif\0\0"), xmp=b"<x/>")
    assert copy is not None
    image = Image.open(io.BytesIO(copy))
    image.load()
    assert image.getexif()[0x0112] == 6
    assert image.info["XML:com.adobe.xmp"] == "<x/>"


def test_an_animation_is_not_copied() -> None:
    first, second = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "red")
    assert copy_png(saved(first, save_all=True, append_images=[second]), exif=None, xmp=None) is None
