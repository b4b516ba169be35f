"""Copy the pixels of a JPEG as they are coded, with other metadata: nothing is decoded, so nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cvbatch.images.jpeg_layout import (
    APP0,
    APP14,
    DHT,
    DNL,
    EOI,
    MARKER_IN_SCAN,
    METADATA_MARKERS,
    SOI,
    SOS,
    JpegLayout,
    JpegSegment,
)
from cvbatch.images.jpeg_metadata import APP1, APP2, ICC_IDENTIFIER, XMP_IDENTIFIER

_DAC, _DQT, _DRI = 0xCC, 0xDB, 0xDD
_BETWEEN_SCANS: Final = frozenset({DHT, DNL, SOS, _DAC, _DQT, _DRI})
_JFIF_BYTES: Final = 14
"""Identifier, revision, density and size of the thumbnail, which comes after them (ITU-T T.871, 10.1)."""
_LONGEST_BODY: Final = 65_533


def copy_jpeg(layout: JpegLayout, *, exif: bytes | None, xmp: bytes | None) -> bytes | None:
    """Return the file with only what decides how it looks, and with the given metadata.

    Kept are JFIF without its thumbnail, Adobe's transform and the colour profile. Gone are Exif, XMP, comments, all
    other application segments, and what comes after the picture.

    Args:
        layout: Of the file.
        exif: New block that begins with `Exif`; None for none.
        xmp: New packet; None for none.

    Returns:
        None if the file has no regular end, or new metadata does not fit into a segment.
    """
    metadata = [exif] if exif else []
    metadata += [XMP_IDENTIFIER + xmp] if xmp else []
    scans = None if any(len(body) > _LONGEST_BODY for body in metadata) else _copy_scans(layout)
    if scans is None:
        return None
    jfif = [segment for segment in layout.segments if _is_jfif(segment)][:1]
    head = [
        *(JpegSegment(APP0, segment.body[: _JFIF_BYTES - 2] + b"\0\0", 0) for segment in jfif),
        *(JpegSegment(APP1, body, 0) for body in metadata),
        *(segment for segment in layout.segments if _decides_look(segment)),
    ]
    return b"".join((bytes((0xFF, SOI)), *(segment.to_bytes() for segment in head), *scans, bytes((0xFF, EOI))))


def _is_jfif(segment: JpegSegment) -> bool:
    return segment.marker == APP0 and segment.body.startswith(b"JFIF\0") and len(segment.body) >= _JFIF_BYTES


def _decides_look(segment: JpegSegment) -> bool:
    if segment.marker == APP2:
        return segment.body.startswith(ICC_IDENTIFIER)
    return segment.marker not in METADATA_MARKERS or (segment.marker == APP14 and segment.body.startswith(b"Adobe"))


def _copy_scans(layout: JpegLayout) -> list[memoryview] | None:
    """Return the coded pixels of all scans, and what is between scans without metadata."""
    parts = list[memoryview]()
    for part in _iter_scan_parts(layout):
        if part is None:
            return None
        parts.append(part)
    return parts


def _iter_scan_parts(layout: JpegLayout) -> Iterator[memoryview | None]:
    """Yield the parts up to the end marker; None last if there is none, or an unusual marker before it."""
    data, start = memoryview(layout.data), layout.scan_start
    while match := MARKER_IN_SCAN.search(layout.data, start):
        marker, offset = layout.data[match.start() + 1], match.start()
        yield data[start:offset]
        if marker == EOI:
            return
        end = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        if end < offset + 4 or end > len(data) or not (marker in _BETWEEN_SCANS or marker in METADATA_MARKERS):
            break
        if marker in _BETWEEN_SCANS:
            yield data[offset:end]
        start = end
    yield None
