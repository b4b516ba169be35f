"""Whether the pixels of a JPEG are all there: libjpeg's warnings, and what it does not notice.

libjpeg fills what is missing with grey, or goes on with what comes next, and only warns. It notices nearly everything
from some hundred bytes on. A few bytes that are wrong often decode to as many pixels as the right ones, and leave no
trace at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.jpeg_layout import DHT, HUFFMAN_FRAMES, PROGRESSIVE_FRAMES, SOS, JpegLayout, iter_jpeg_segments

_TRAILING_BYTES_WARNING: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_READ_AHEAD_BYTES: Final = 7
"""Bytes that libjpeg may have read ahead, and does not count as extraneous."""
_WARNING_MESSAGES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile("premature end|Premature end"), lambda _: "its pixels stop before the picture does"),
    (_TRAILING_BYTES_WARNING, lambda found: f"{found[1]} bytes are left over when the picture is complete"),
    (re.compile(r"(\d+) extraneous bytes"), lambda found: f"{found[1]} bytes within its pixels belong to nothing"),
    (re.compile("bad (Huffman|arithmetic) code"), lambda _: "its pixels have codes that do not exist"),
    (re.compile(r"found marker (0x\w\w) instead of"), lambda _: "a piece of its pixels is lost"),
    (re.compile("progression"), lambda _: "passes over its pixels are lost or out of order"),
    (re.compile("nsupported marker type|Bogus|two S"), lambda _: "something that is no pixel stands within its pixels"),
)
"""libjpeg's words and ours, by the first that fits."""
_STRAY_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MAX_STRAY_MARKERS: Final = 20
_ZERO_RUN: Final = bytes(32)
_MAX_SCANS: Final = 500
"""What libjpeg-turbo's own fuzzers allow; encoders write ten or so."""
_ALL_BITS_MISSING: Final = 64
"""More bits than any coefficient has."""


def describe_libjpeg_warning(message: str) -> str:
    """What libjpeg says, for people who do not know it."""
    for pattern, words in _WARNING_MESSAGES:
        found = pattern.search(message)
        if found:
            return words(found)
    return f"its pixels cannot be read ({message})"


def count_padding_bytes(message: str, layout: JpegLayout) -> int:
    """How many bytes a warning is about that only fill what is between the last pixel and the end marker; else 0.

    Cameras write zeros there. So does a disk that lost a piece of a file; but then libjpeg has taken some of them for
    pixels, and there are more zeros than are left over.
    """
    found = _TRAILING_BYTES_WARNING.match(message)
    if not found or layout.scan_end is None:
        return 0
    tail = layout.data[layout.scan_start : layout.scan_end]
    equal = len(tail) - len(tail.rstrip(tail[-1:]))
    return int(found[1]) if int(found[1]) <= equal <= int(found[1]) + _READ_AHEAD_BYTES else 0


def find_stray_markers(layout: JpegLayout) -> list[int]:
    """Where something within the pixels looks like a marker, the last ones first: what follows may be none."""
    end = len(layout.data) if layout.scan_end is None else layout.scan_end
    found = [each.start() for each in _STRAY_MARKER.finditer(layout.data, layout.scan_start, end)]
    return found[::-1][:_MAX_STRAY_MARKERS]


def find_silent_damage(layout: JpegLayout) -> str | None:
    """What libjpeg does not warn of; None if nothing is found.

    Raises:
        ImageError: `DecompressionBomb`, if there are more scans than any encoder writes: each costs as much as the
            first, for a few bytes.
    """
    if layout.frame.marker not in PROGRESSIVE_FRAMES and _has_zero_gap(layout):
        return "there is a hole of zeros in its pixels"
    if _has_missing_scans(layout):
        return "passes over its pixels are lost"
    return None


def _has_missing_scans(layout: JpegLayout) -> bool:
    """Whether a component never comes, or a bit of its coefficients (T.81, G.1.1.1)."""
    progressive = layout.frame.marker in PROGRESSIVE_FRAMES
    first = layout.segments[-1]
    if not progressive and first.body[:1] == layout.frame.body[5:6]:
        return False
    missing = {component: [_ALL_BITS_MISSING] * 64 for component in layout.frame.body[6::3]}
    later = iter_jpeg_segments(layout.data[: layout.scan_end], layout.scan_start)
    for count, scan in enumerate(each.body for each in (first, *later) if each.marker == SOS and len(each.body) >= 4):
        if count == _MAX_SCANS:
            raise ImageError(
                "DecompressionBomb", f"jpeg has more than {_MAX_SCANS} passes over its pixels; save it as a usual JPEG"
            )
        start, end, low = (scan[-3], scan[-2], scan[-1] & 15) if progressive else (0, 63, 0)
        for component in scan[1 : 1 + 2 * scan[0] : 2]:
            bits = missing.get(component, [])
            bits[start : end + 1] = [low] * len(bits[start : end + 1])
    return any(any(bits) for bits in missing.values())


def _has_zero_gap(layout: JpegLayout) -> bool:
    """Whether zeros stand where no encoder writes so many.

    As codes they mean the first symbol of each table over and over. Where that is not "the rest of the block is empty",
    the first component would have dozens of equal coefficients in a row.
    """
    if layout.frame.marker not in HUFFMAN_FRAMES:
        return False
    at = layout.data.find(_ZERO_RUN, layout.scan_start, layout.scan_end)
    if at < 0 or not layout.data[at : layout.scan_end].strip(b"\0"):  # filling, or libjpeg notices
        return False
    scan = layout.segments[-1].body
    if scan[:1] != layout.frame.body[5:6] and _STRAY_MARKER.search(layout.data, layout.scan_start, at):
        return False  # in the scan of another component, with other tables
    table = next((each for each in _iter_huffman_tables(layout) if scan[2:3] and each[0] == 0x10 | scan[2] & 15), None)
    return table is not None and table[17] & 15 != 0


def _iter_huffman_tables(layout: JpegLayout) -> Iterable[bytes]:
    """Huffman tables before the first scan: class and number, 16 counts, symbols."""
    for body in (each.body for each in layout.segments if each.marker == DHT):
        at = 0
        while at + 18 <= len(body):
            end = at + 17 + sum(body[at + 1 : at + 17])
            yield body[at:end]
            at = end
