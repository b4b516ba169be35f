"""Detect damaged pixels of a JPEG: from libjpeg's warnings, and damage that libjpeg does not notice.

libjpeg fills missing pixels with grey, or continues with the next data, and only warns. It notices nearly all damage of
some hundred bytes or more. A few wrong bytes often decode to the right number of pixels, and leave no trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import (
    DHT,
    HUFFMAN_FRAMES,
    MARKER_IN_SCAN,
    PROGRESSIVE_FRAMES,
    SOS,
    JpegLayout,
    iter_jpeg_segments,
)

_TRAILING_BYTES_WARNING: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_READ_AHEAD_BYTES: Final = 7
"""Most bytes that libjpeg reads ahead and does not count as extraneous."""
_WARNING_MESSAGES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile("premature end|Premature end"), lambda _: "its pixels stop before the picture does"),
    (_TRAILING_BYTES_WARNING, lambda match: f"{match[1]} bytes are left over when the picture is complete"),
    (re.compile(r"(\d+) extraneous bytes"), lambda match: f"{match[1]} bytes within its pixels do not belong there"),
    (re.compile("bad (Huffman|arithmetic) code"), lambda _: "its pixels have codes that do not exist"),
    (re.compile(r"found marker (0x\w\w) instead of"), lambda _: "a part of its pixels is missing"),
    (re.compile("progression"), lambda _: "passes over its pixels are missing or out of order"),
    (re.compile("nsupported marker type|Bogus|two S"), lambda _: "there is foreign data within its pixels"),
)
"""libjpeg's warnings and our descriptions; the first match counts."""
_MAX_STRAY_MARKERS: Final = 20
_ZERO_RUN: Final = bytes(32)
_MAX_SCANS: Final = 500
"""Limit of libjpeg-turbo's own fuzzers; encoders write about ten scans."""
_ALL_BITS_MISSING: Final = 64
"""More bits than any coefficient has."""


def describe_libjpeg_warning(message: str) -> str:
    """Describe a warning of libjpeg for users who do not know libjpeg."""
    for pattern, describe in _WARNING_MESSAGES:
        match = pattern.search(message)
        if match:
            return describe(match)
    return f"its pixels cannot be read ({message})"


def count_padding_bytes(message: str, layout: JpegLayout) -> int:
    """Count the bytes of a warning that are only padding between the pixels and the end marker; 0 for other warnings.

    Cameras write zeros there. A disk that lost part of a file leaves zeros, too; but then libjpeg has decoded some of
    them as pixels, and there are more zeros than extraneous bytes.
    """
    match = _TRAILING_BYTES_WARNING.match(message)
    if not match or layout.scan_end is None:
        return 0
    tail = layout.data[layout.scan_start : layout.scan_end]
    run_length = len(tail) - len(tail.rstrip(tail[-1:]))
    extraneous = int(match[1])
    return extraneous if extraneous <= run_length <= extraneous + _READ_AHEAD_BYTES else 0


def find_stray_markers(layout: JpegLayout) -> list[int]:
    """Return the offsets of bytes within the pixels that look like markers, last first, at most 20."""
    end = len(layout.data) if layout.scan_end is None else layout.scan_end
    offsets = [match.start() for match in MARKER_IN_SCAN.finditer(layout.data, layout.scan_start, end)]
    return offsets[::-1][:_MAX_STRAY_MARKERS]


def find_silent_damage(layout: JpegLayout) -> str | None:
    """Describe damage that libjpeg does not warn of; None if there is none.

    Raises:
        ImageError: `DecompressionBomb`, if there are more scans than any encoder writes: a scan of a few bytes costs as
            much time as a full one.
    """
    if layout.frame.marker not in PROGRESSIVE_FRAMES and _has_zero_gap(layout):
        return "there is a hole of zeros in its pixels"
    if _has_missing_scans(layout):
        return "passes over its pixels are missing"
    return None


def _has_missing_scans(layout: JpegLayout) -> bool:
    """Whether a component, or a bit of its coefficients, is in no scan (T.81, G.1.1.1)."""
    is_progressive = layout.frame.marker in PROGRESSIVE_FRAMES
    first = layout.segments[-1]
    if not is_progressive and first.body[:1] == layout.frame.body[5:6]:
        return False
    missing = {component: [_ALL_BITS_MISSING] * 64 for component in layout.frame.body[6::3]}
    segments = (first, *iter_jpeg_segments(layout.data[: layout.scan_end], layout.scan_start))
    scans = (segment.body for segment in segments if segment.marker == SOS and len(segment.body) >= 4)
    for count, scan in enumerate(scans):
        if count == _MAX_SCANS:
            raise ImageError(
                "DecompressionBomb",
                f"jpeg has more than {_MAX_SCANS} passes over its pixels; save it as a baseline JPEG",
            )
        start, end, lowest_bit = (scan[-3], scan[-2], scan[-1] & 15) if is_progressive else (0, 63, 0)
        for component in scan[1 : 1 + 2 * scan[0] : 2]:
            bits = missing.get(component, [])
            bits[start : end + 1] = [lowest_bit] * len(bits[start : end + 1])
    return any(any(bits) for bits in missing.values())


def _has_zero_gap(layout: JpegLayout) -> bool:
    """Whether the pixels contain a run of zeros that no encoder writes.

    Decoded, zeros repeat the first symbol of each Huffman table. If that symbol does not mean "the remaining block is
    empty", the first component would have dozens of equal coefficients in a row.
    """
    if layout.frame.marker not in HUFFMAN_FRAMES:
        return False
    gap_start = layout.data.find(_ZERO_RUN, layout.scan_start, layout.scan_end)
    if gap_start < 0 or not layout.data[gap_start : layout.scan_end].strip(b"\0"):
        # Zeros up to the end are padding, or libjpeg warns.
        return False
    scan = layout.segments[-1].body
    if scan[:1] != layout.frame.body[5:6] and MARKER_IN_SCAN.search(layout.data, layout.scan_start, gap_start):
        return False  # the gap is in the scan of another component, with other tables
    tables = _iter_huffman_tables(layout)
    table = next((table for table in tables if scan[2:3] and table[0] == 0x10 | scan[2] & 15), None)
    return table is not None and table[17] & 15 != 0


def _iter_huffman_tables(layout: JpegLayout) -> Iterable[bytes]:
    """Yield the Huffman tables before the first scan: class and number, 16 counts, symbols."""
    for body in (segment.body for segment in layout.segments if segment.marker == DHT):
        start = 0
        while start + 18 <= len(body):
            end = start + 17 + sum(body[start + 1 : start + 17])
            yield body[start:end]
            start = end
