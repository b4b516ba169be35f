"""Headers of JPEGs that any decoder supports."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from cvbatch.images.decode import decode
from cvbatch.images.jpeg_header import read_baseline_header
from cvbatch.testing import generate_images

LIMIT = 1_000_000
(PHOTO,) = generate_images([(40, 30)])


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def named(data: bytes, names: bytes) -> bytes:
    """The same file with other names of its channels, in the frame and in the scan, and without JFIF's marker."""
    frame = data.index(b"\xff\xc0")
    changed = bytearray(data)
    for channel, name in enumerate(names):
        changed[frame + 10 + 3 * channel] = name
    scan = data.index(b"\xff\xda")
    for channel, name in enumerate(names):
        changed[scan + 5 + 2 * channel] = name
    length = int.from_bytes(data[4:6], "big")
    return bytes(changed[:2] + changed[4 + length :])


def test_the_header_agrees_with_the_decoded_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    data = jpeg(PHOTO, exif=exif)
    header, decoded = read_baseline_header(data, max_pixels=LIMIT, exif=True), decode(data, max_pixels=LIMIT, exif=True)
    assert header is not None
    assert (header.width, header.height, header.format) == (decoded.width, decoded.height, decoded.format)
    assert header.exif == decoded.exif
    assert header.orientation == 6
    assert (header.width, header.height) == (PHOTO.height, PHOTO.width)


def test_jpegs_that_only_some_decoders_support_have_no_header() -> None:
    good, stream = jpeg(PHOTO), io.BytesIO()
    PHOTO.save(stream, "PNG")
    assert read_baseline_header(good, max_pixels=LIMIT) is not None
    others = {
        "progressive": jpeg(PHOTO, progressive=True),
        "grey": jpeg(PHOTO.convert("L")),
        "four inks": jpeg(PHOTO.convert("CMYK")),
        "colours that are not YCbCr": jpeg(PHOTO, keep_rgb=True),
        "cut": good[: len(good) // 2],
        "channels that are called R, G and B": named(good, b"RGB"),
        "arithmetic coding": good.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "no header": good[:20],
        "half, and an end": good[: len(good) // 2] + b"\xff\xd9",
        "a hole": good[: len(good) * 2 // 3] + bytes(200) + good[len(good) * 2 // 3 + 200 :],
        "another format": stream.getvalue(),
        "nothing": b"",
    }
    assert {name: read_baseline_header(data, max_pixels=LIMIT) for name, data in others.items()} == dict.fromkeys(
        others
    )
    assert read_baseline_header(good, max_pixels=PHOTO.width * PHOTO.height - 1) is None
