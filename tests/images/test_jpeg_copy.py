"""Copies of JPEGs hold the same pixels, and nothing else of the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.jpeg_copy import copy_jpeg
from cvbatch.images.jpeg_layout import JpegSegment, read_jpeg_layout
from tests.images.jpegs import END, KINDS, PHOTO, in_passes, pixels_at, segment_at

SECRETS = [
    JpegSegment(0xE0, b"JFXX\0\x10secret thumbnail", 0),
    JpegSegment(0xE1, b"Exif\0\0secret place", 0),
    JpegSegment(0xE2, b"MPF\0secret preview", 0),
    JpegSegment(0xED, b"Photoshop 3.0\0secret caption", 0),
    JpegSegment(0xEB, b"JP\0secret history", 0),
    JpegSegment(0xFE, b"secret comment", 0),
]
SECRET_BYTES = b"".join(segment.to_bytes() for segment in SECRETS)


def copied(data: bytes, *, exif: bytes | None = None, xmp: bytes | None = None) -> bytes | None:
    layout = read_jpeg_layout(data)
    assert layout is not None
    return copy_jpeg(layout, exif=exif, xmp=xmp)


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_same_and_secrets_are_gone(kind: str) -> None:
    original = KINDS[kind]
    data = original[:2] + SECRET_BYTES + original[2:] + b"secret preview behind the picture"
    copy = copied(data)
    assert copy is not None
    assert (pixels_of(copy) == pixels_of(original)).all()
    assert b"secret" not in copy
    assert copy.endswith(END)


def test_metadata_between_scans_is_gone() -> None:
    original = in_passes(PHOTO.split())
    start, end = pixels_at(original)
    between = original.index(b"\xff\xc4", start)
    copy = copied(original[:between] + SECRET_BYTES + original[between:end] + SECRET_BYTES + END)
    assert copy is not None
    assert b"secret" not in copy
    assert (pixels_of(copy) == pixels_of(original)).all()


def test_the_thumbnail_within_jfif_is_gone() -> None:
    original = KINDS["4:2:0"]
    start = segment_at(original, 0xE0)
    thumbnail = b"secret"  # two pixels of RGB
    jfif = JpegSegment(0xE0, original[start + 4 : start + 16] + b"\2\1" + thumbnail, 0).to_bytes()
    copy = copied(original[:start] + jfif + original[start + 18 :])
    assert copy == copied(original)
    assert copy is not None
    assert b"JFIF" in copy


def test_new_metadata_is_read_by_others() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    copy = copied(KINDS["4:2:0"], exif=tags.tobytes(), xmp=b"<x/>")
    assert copy is not None
    image = Image.open(io.BytesIO(copy))
    assert image.getexif()[0x0112] == 6
    assert image.info["xmp"] == b"<x/>"


@pytest.mark.parametrize(
    ("data", "exif"),
    [
        pytest.param(KINDS["4:2:0"][:-2], None, id="no end"),
        pytest.param(KINDS["4:2:0"][:-2] + b"\xff\xf0\0\x04ab" + END, None, id="unknown marker"),
        pytest.param(KINDS["4:2:0"][:-2] + b"\xff\xfe\xff\xff" + END, None, id="segment longer than the file"),
        pytest.param(KINDS["4:2:0"], b"Exif\0\0" + bytes(70_000), id="too much metadata"),
    ],
)
def test_unusual_files_are_not_copied(data: bytes, exif: bytes | None) -> None:
    assert copied(data, exif=exif) is None
