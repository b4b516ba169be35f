"""Find the metadata beside the picture in a JPEG: Exif, XMP, colour profile. Broken blocks are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cvbatch.images.jpeg_layout import JpegSegment

APP1, APP2 = 0xE1, 0xE2
EXIF_IDENTIFIER: Final = b"Exif\0\0"
XMP_IDENTIFIER: Final = b"http://ns.adobe.com/xap/1.0/\0"
ICC_IDENTIFIER: Final = b"ICC_PROFILE\0"


def find_exif_block(segments: Sequence[JpegSegment]) -> bytes | None:
    """Return the Exif block, joined from its segments; None if there is none."""
    return b"".join(_find_app_segments(segments, APP1, EXIF_IDENTIFIER)) or None


def find_xmp_packet(segments: Sequence[JpegSegment]) -> bytes | None:
    """Return the XMP packet; None if there is none."""
    return next(iter(_find_app_segments(segments, APP1, XMP_IDENTIFIER)), None)


def find_icc_profile(segments: Sequence[JpegSegment]) -> bytes | None:
    """Return the ICC profile, joined from its numbered parts; None if a part is missing (ICC.1:2022, B.4)."""
    parts = {body[0]: body for body in _find_app_segments(segments, APP2, ICC_IDENTIFIER) if len(body) >= 2}
    count = max((body[1] for body in parts.values()), default=0)
    if not count or set(parts) != set(range(1, count + 1)):
        return None
    return b"".join(parts[number][2:] for number in range(1, count + 1))


def _find_app_segments(segments: Sequence[JpegSegment], marker: int, identifier: bytes) -> list[bytes]:
    return [
        segment.body[len(identifier) :]
        for segment in segments
        if segment.marker == marker and segment.body.startswith(identifier)
    ]
