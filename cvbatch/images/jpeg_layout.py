"""Parse the segments of a JPEG before its pixels, and find where the pixels end (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

SOI, EOI, SOS, DNL, DHT = 0xD8, 0xD9, 0xDA, 0xDC, 0xC4
APP0, APP14 = 0xE0, 0xEE
JPEG_LS: Final = 0xF7
FRAME_MARKERS: Final = (frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}) | {JPEG_LS}
"""Markers of a frame, which define the coding (table B.1; ITU-T T.87 for JPEG-LS)."""
BASELINE_FRAME: Final = 0xC0
HUFFMAN_FRAMES: Final = frozenset({BASELINE_FRAME, 0xC1})
"""Sequential, with Huffman codes; 8 or 12 bits."""
PROGRESSIVE_FRAMES: Final = frozenset({0xC2, 0xCA})
_STANDALONE_MARKERS: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
"""Codes after 0xFF without a length: stuffing, TEM and restarts."""
METADATA_MARKERS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
"""Application segments and comments."""
_DROPPED_MARKERS: Final = METADATA_MARKERS - {APP0, APP14}
_USED_METADATA_MARKERS: Final = frozenset({APP0, 0xE1, 0xE2, APP14})
"""Metadata that is read: JFIF, Exif and XMP, profiles, Adobe's transform."""
MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Within the pixels: neither a stuffed byte nor a restart."""
_MARKER_PREFIX: Final = 0xFF
_SOI_BYTES: Final = bytes((_MARKER_PREFIX, SOI))
_EOI_BYTES: Final = bytes((_MARKER_PREFIX, EOI))
_EOI_PATTERN: Final = re.compile(_EOI_BYTES)
"""Three times as fast as `bytes.find` if a file is full of 0xFF."""


@dataclass(frozen=True, slots=True)
class JpegSegment:
    """One marker with its content."""

    marker: int
    body: bytes
    """Content after the two bytes of the length."""
    end_offset: int
    """Offset in the file where the segment ends."""

    def to_bytes(self) -> bytes:
        """Serialise the segment as stored in a file."""
        return bytes((_MARKER_PREFIX, self.marker)) + (len(self.body) + 2).to_bytes(2, "big") + self.body


@dataclass(frozen=True)
class JpegLayout:
    """Segments before the pixels of a JPEG, and the file."""

    segments: tuple[JpegSegment, ...]
    """Segments up to and including the first start of a scan (SOS)."""
    frame: JpegSegment
    """Segment with the size and the components; see `FRAME_MARKERS`."""
    data: bytes
    """The whole file."""

    @property
    def scan_start(self) -> int:
        """Offset where the pixels of the first scan start."""
        return self.segments[-1].end_offset

    @cached_property
    def scan_end(self) -> int | None:
        """Offset of the end marker; None if it is missing."""
        match = _EOI_PATTERN.search(self.data, self.scan_start)
        return None if match is None else match.start()

    @property
    def bits_per_sample(self) -> int:
        """Bits of each sample."""
        return self.frame.body[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels; the height is 0 if it is stored after the first scan."""
        return int.from_bytes(self.frame.body[3:5], "big"), int.from_bytes(self.frame.body[1:3], "big")

    @property
    def channel_count(self) -> int:
        """Number of components."""
        return self.frame.body[5]

    def to_minimal_jpeg(self, *, scan_end: int | None = None) -> bytes:
        """Return the file with only the segments that its pixels need, and without harmless irregularities.

        libjpeg reports only its first warning, so a harmless one must not hide a serious one. Harmless are: bytes
        between segments, unknown numbers of JFIF's revision and Adobe's transform, and parameters that have no meaning
        in a sequential scan.

        Args:
            scan_end: Offset where the pixels end; default: the end marker, or the end of the file.
        """
        end = self.scan_end if scan_end is None else scan_end
        header = b"".join(
            _normalise_segment(segment, self) for segment in self.segments if segment.marker not in _DROPPED_MARKERS
        )
        return b"".join((_SOI_BYTES, header, memoryview(self.data)[self.scan_start : end], _EOI_BYTES))


def read_jpeg_layout(data: bytes) -> JpegLayout | None:
    """Read the segments of a JPEG up to its pixels; None if they do not lead to pixels."""
    segments = list[JpegSegment]()
    frame = None
    for segment in iter_jpeg_segments(data, 2):
        if segment.marker in METADATA_MARKERS and (segment.marker not in _USED_METADATA_MARKERS or not segment.body):
            continue  # a file may contain millions of them
        segments.append(segment)
        if segment.marker in FRAME_MARKERS and frame is None:
            frame = segment
        elif segment.marker in (EOI, SOI):
            break
        elif segment.marker == SOS:
            is_complete = frame is not None and len(frame.body) >= 6 and segment.end_offset <= len(data)
            return JpegLayout(tuple(segments), frame, data) if is_complete and frame else None
    return None


def iter_jpeg_segments(data: bytes, offset: int) -> Iterator[JpegSegment]:
    """Yield the segments from `offset` on; other bytes, such as pixels, are skipped."""
    while (offset := data.find(b"\xff", offset)) >= 0 and offset + 1 < len(data):
        marker = data[offset + 1]
        if marker == _MARKER_PREFIX:
            offset += 1
        elif marker in _STANDALONE_MARKERS:
            offset += 2
        elif marker in (SOI, EOI):
            offset += 2
            yield JpegSegment(marker, b"", offset)
        else:
            length = int.from_bytes(data[offset + 2 : offset + 4], "big")
            if length < 2:
                return
            yield JpegSegment(marker, data[offset + 4 : offset + 2 + length], offset + 2 + length)
            offset += 2 + length


def _normalise_segment(segment: JpegSegment, layout: JpegLayout) -> bytes:
    body, marker = segment.body, segment.marker
    if marker == APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return JpegSegment(marker, body[:5] + b"\1\1" + body[7:], 0).to_bytes()
    if marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        known_transforms, default = ((0, 1), 1) if layout.channel_count == 3 else ((0, 2), 2)
        transform = body[11] if body[11] in known_transforms else default
        return JpegSegment(marker, body[:11] + bytes((transform,)) + body[12:], 0).to_bytes()
    if marker == SOS and layout.frame.marker in HUFFMAN_FRAMES and len(body) >= 4:
        return JpegSegment(marker, body[:-3] + b"\0\x3f\0", 0).to_bytes()
    return segment.to_bytes()
