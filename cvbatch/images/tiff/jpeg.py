"""Parts of a TIFF that are JPEGs: their tables put back, their colours told, damage not let through.

How they are cut: TIFF technical note 2 (1995); markers: ITU-T T.81, annex B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg

from cvbatch.errors import ImageError

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN: Final = 0xDA
_APPLICATION: Final = frozenset(range(0xE0, 0xF0))
_LOOSE: Final = 16
"""Rows and columns that a writer may add to fill the last blocks."""

_ADOBE: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Frame:
    """What a JPEG says of itself."""

    is_lossless: bool
    bits: int
    height: int
    width: int
    components: int


def frame_of(stream: bytes) -> Frame | None:
    """Read the frame header of a JPEG; None if it has none before its pixels."""
    for marker, at, _ in _segments(stream):
        if marker in _FRAMES and at + 10 <= len(stream):
            height, width = (int.from_bytes(stream[place : place + 2], "big") for place in (at + 5, at + 7))
            return Frame(marker in _LOSSLESS, stream[at + 4], height, width, stream[at + 9])
    return None


def read_jpeg_part(
    packed: bytes, tables: bytes, shape: tuple[int, int, int], *, luma_chroma: bool
) -> npt.NDArray[np.uint8]:
    """Decode one strip or tile.

    Args:
        packed: A JPEG, most often without its tables.
        tables: A JPEG of tables only, or nothing.
        shape: (rows, columns, samples) that are wanted, at least.
        luma_chroma: Whether three samples are luma and chroma; they become RGB then.

    Returns:
        (rows, columns, samples) of that shape or a few rows and columns more.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    frame = frame_of(packed)
    if frame is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have no header")
    if frame.is_lossless or frame.bits != 8 or frame.components not in _SPACES:
        kind = "lossless JPEG" if frame.is_lossless else f"JPEG of {frame.bits} bits and {frame.components} samples"
        raise ImageError("UnsupportedImage", f"cannot read a TIFF with {kind} compression; save it with another one")
    wide, high = frame.width - shape[1], frame.height - shape[0]
    if frame.components != shape[2] or not (0 <= wide < _LOOSE and 0 <= high < _LOOSE):
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have another size than it says")
    whole = _joined(packed, tables, transform=1 if luma_chroma else 0)
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(whole, colorspace=_SPACES[frame.components])
    except ValueError as error:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts are damaged") from error
    return pixels.reshape(frame.height, frame.width, frame.components)


_SPACES: Final = {1: "GRAY", 3: "RGB", 4: "CMYK"}
"""What the library gives for so many samples; four are given as they are, whatever they mean."""


def _joined(packed: bytes, tables: bytes, transform: int) -> bytes:
    """One JPEG of a part and its tables, with Adobe's mark, which tells libjpeg what three samples are."""
    mark = _ADOBE + bytes([transform])
    return b"\xff\xd8" + mark + _without_marks(tables) + _without_marks(packed)


def _without_marks(stream: bytes) -> bytes:
    kept = []
    rest = 2
    for marker, at, end in _segments(stream):
        if marker not in _APPLICATION:
            kept.append(stream[at:end])
        rest = end
    tail = stream[rest:]
    return b"".join(kept) + (b"" if tail[:2] == b"\xff\xd9" else tail)


def _segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of the segments before the pixels; the last one is the header of the scan."""
    at = 2
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker == 0xD9:
            return
        else:
            end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
            yield marker, at, end
            if marker == _SCAN:
                return
            at = end
