"""Metadata blocks of a JPEG are joined from their segments, or ignored if incomplete."""

from __future__ import annotations

import pytest

from cvbatch.images.jpeg_layout import JpegSegment
from cvbatch.images.jpeg_metadata import find_exif_block, find_icc_profile, find_xmp_packet

XMP = b"http://ns.adobe.com/xap/1.0/\0"


def app1(body: bytes) -> JpegSegment:
    return JpegSegment(0xE1, body, 0)


def part(number: int, count: int, body: bytes) -> JpegSegment:
    return JpegSegment(0xE2, b"ICC_PROFILE\0" + bytes([number, count]) + body, 0)


def test_exif_is_joined_from_several_segments() -> None:
    assert find_exif_block([app1(XMP + b"x"), app1(b"Exif\0\0II"), app1(b"Exif\0\0more")]) == b"IImore"
    assert find_exif_block([app1(b"Exif"), JpegSegment(0xE2, b"Exif\0\0II", 0)]) is None


def test_the_first_xmp_packet_is_used() -> None:
    assert find_xmp_packet([app1(b"Exif\0\0II"), app1(XMP + b"one"), app1(XMP + b"two")]) == b"one"
    assert find_xmp_packet([app1(b"Exif\0\0II")]) is None


def test_parts_of_a_profile_may_be_in_any_order() -> None:
    assert find_icc_profile([part(2, 3, b"b"), app1(b"x"), part(3, 3, b"c"), part(1, 3, b"a")]) == b"abc"


@pytest.mark.parametrize(
    "segments",
    [
        [],
        [part(1, 2, b"a")],
        [part(0, 0, b"a")],
        [part(1, 2, b"a"), part(3, 2, b"c")],
        [JpegSegment(0xE2, b"ICC_PROFILE\0\1", 0)],
    ],
)
def test_an_incomplete_profile_is_ignored(segments: list[JpegSegment]) -> None:
    assert find_icc_profile(segments) is None
