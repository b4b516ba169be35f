"""What lies beside the picture in a JPEG: Exif, XMP, a colour profile. Whatever is broken there is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cvbatch.images.jpeg_layout import Segment

_APP1, _APP2 = 0xE1, 0xE2
_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PROFILE: Final = b"ICC_PROFILE\0"


def exif_of(segments: Sequence[Segment]) -> bytes | None:
    """The Exif block; None if there is none. A longer one goes on in the next segments."""
    return b"".join(_bodies(segments, _APP1, _EXIF)) or None


def xmp_of(segments: Sequence[Segment]) -> bytes | None:
    """The XMP packet; None if there is none."""
    return next(iter(_bodies(segments, _APP1, _XMP)), None)


def profile_of(segments: Sequence[Segment]) -> bytes | None:
    """The ICC profile, put together from its numbered parts; None if any is missing (ICC.1:2022, B.4)."""
    parts = {body[0]: body for body in _bodies(segments, _APP2, _PROFILE) if len(body) >= 2}
    count = max((body[1] for body in parts.values()), default=0)
    if not count or set(parts) != set(range(1, count + 1)):
        return None
    return b"".join(parts[number][2:] for number in range(1, count + 1))


def _bodies(segments: Sequence[Segment], marker: int, name: bytes) -> list[bytes]:
    return [each.body[len(name) :] for each in segments if each.marker == marker and each.body.startswith(name)]
