"""Warnings of libjpeg: those that mean damage, and those that are harmless."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from cvbatch.images.decode import decode
from cvbatch.images.jpeg_damage import count_padding_bytes, describe_libjpeg_warning, find_silent_damage
from cvbatch.images.jpeg_layout import JpegLayout, read_jpeg_layout
from tests.images.jpegs import END, KINDS, PHOTO, jpeg, pixels_at, put, segment_at

GOOD = jpeg()
INKS = jpeg(PHOTO.convert("CMYK"))
JFIF, ADOBE, TABLES, FRAME, SCAN = 0xE0, 0xEE, 0xDB, 0xC0, 0xDA


def with_adobe(data: bytes, transform: int) -> bytes:
    """Without JFIF's marker, which would decide instead."""
    start = segment_at(data, JFIF)
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes((transform,))
    return put(data, start, marker, instead_of=length)


HARMLESS = {
    "bytes before a table": (
        GOOD,
        put(GOOD, segment_at(GOOD, TABLES), b"lost"),
        "4 extraneous bytes before marker 0xdb",
    ),
    "bytes before the frame": (
        GOOD,
        put(GOOD, segment_at(GOOD, FRAME), b"\0"),
        "1 extraneous bytes before marker 0xc0",
    ),
    "bytes before the scan": (
        GOOD,
        put(GOOD, segment_at(GOOD, SCAN), bytes(range(200))),
        "200 extraneous bytes before marker 0xda",
    ),
    "zeros before the end": (GOOD, put(GOOD, len(GOOD) - 2, bytes(500)), "extraneous bytes before marker 0xd9"),
    "a newer revision of JFIF": (GOOD, put(GOOD, 11, b"\2\1", instead_of=2), "unknown JFIF revision number 2.01"),
    "an unknown transform of three channels": (GOOD, with_adobe(GOOD, 7), "Unknown Adobe color transform code 7"),
    "an unknown transform of four": (
        put(INKS, segment_at(INKS, ADOBE) + 15, b"\2", instead_of=1),
        put(INKS, segment_at(INKS, ADOBE) + 15, b"\x09", instead_of=1),
        "Unknown Adobe color transform code 9",
    ),
    "parameters that a sequential scan does not have": (
        GOOD,
        put(GOOD, segment_at(GOOD, SCAN) + 11, b"\0\0\0", instead_of=3),
        "Invalid SOS parameters for sequential JPEG",
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_irregularities_are_no_damage(case: str) -> None:
    good, odd, message = HARMLESS[case]
    with pytest.raises(ValueError, match=message):
        simplejpeg.decode_jpeg(odd, "CMYK" if good.startswith(INKS[:20]) else "RGB")
    result = decode(odd, max_pixels=10**6, keep_damaged=True)
    assert result.warning is None
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(decode(good, max_pixels=10**6).image))


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_irregularities_do_not_hide_damage(case: str) -> None:
    _, odd, _ = HARMLESS[case]
    start, end = pixels_at(odd)
    result = decode(odd[: (start + end) // 2] + END, max_pixels=10**6, keep_damaged=True)
    assert result.warning == "jpeg is damaged: its pixels stop before the picture does"


def test_a_broken_profile_and_comments_are_harmless() -> None:
    profile = b"\xff\xe2\0\x14ICC_PROFILE\0\2\5" + bytes(4)
    odd = put(GOOD, 2, profile + b"\xff\xfe\0\7\xff\xff\xd9ab" + b"\xff\xff\xff")
    np.testing.assert_array_equal(
        np.asarray(decode(odd, max_pixels=10**6).image), np.asarray(decode(GOOD, max_pixels=10**6).image)
    )


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_padding_does_not_hide_missing_restarts(options: dict[str, bool]) -> None:
    data = jpeg(restart_marker_blocks=2, **options)
    whole = decode(put(data, len(data) - 2, bytes(64)), max_pixels=10**6, keep_damaged=True)
    assert whole.warning is None
    np.testing.assert_array_equal(np.asarray(whole.image), np.asarray(decode(data, max_pixels=10**6).image))
    start, end = pixels_at(data)
    for cut in range((start + end) // 2, end - 100, (end - start) // 20):
        assert decode(data[:cut] + bytes(64) + END, max_pixels=10**6, keep_damaged=True).warning


def layout_of(data: bytes) -> JpegLayout:
    layout = read_jpeg_layout(data)
    assert layout is not None
    return layout


def test_padding_is_distinguished_from_surplus_pixels() -> None:
    filled = layout_of(put(GOOD, len(GOOD) - 2, b"\xaa" * 40))
    assert count_padding_bytes("Corrupt JPEG data: 36 extraneous bytes before marker 0xd9", filled)
    assert not count_padding_bytes("Corrupt JPEG data: 20 extraneous bytes before marker 0xd9", filled)
    assert not count_padding_bytes("Corrupt JPEG data: 36 extraneous bytes before marker 0xd9", layout_of(GOOD))
    assert not count_padding_bytes("Corrupt JPEG data: premature end of data segment", filled)


@pytest.mark.parametrize("kind", KINDS)
def test_intact_files_have_no_silent_damage(kind: str) -> None:
    assert find_silent_damage(layout_of(KINDS[kind])) is None


def test_zeros_of_a_flat_picture_are_no_gap() -> None:
    from PIL import Image

    flat = jpeg(Image.new("RGB", (2000, 1000), (200, 30, 60)), optimize=True)
    assert bytes(64) in flat
    assert find_silent_damage(layout_of(flat)) is None


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Corrupt JPEG data: premature end of data segment", "its pixels stop before the picture does"),
        ("Premature end of JPEG file", "its pixels stop before the picture does"),
        (
            "Corrupt JPEG data: 78 extraneous bytes before marker 0xd9",
            "78 bytes are left over when the picture is complete",
        ),
        ("Corrupt JPEG data: 5 extraneous bytes before marker 0xd3", "5 bytes within its pixels do not belong there"),
        ("Corrupt JPEG data: bad Huffman code", "its pixels have codes that do not exist"),
        ("Corrupt JPEG data: bad arithmetic code", "its pixels have codes that do not exist"),
        ("Corrupt JPEG data: found marker 0xd5 instead of RST3", "a part of its pixels is missing"),
        (
            "Inconsistent progression sequence for component 0 coefficient 0",
            "passes over its pixels are missing or out of order",
        ),
        ("Unsupported marker type 0x5a", "there is foreign data within its pixels"),
        ("anything else", "its pixels cannot be read (anything else)"),
    ],
)
def test_descriptions_of_warnings(message: str, words: str) -> None:
    assert describe_libjpeg_warning(message) == words
