"""Parts of a TIFF that are JPEGs: their tables put back, their colours told, damage not let through.

How they are cut: TIFF technical note 2 (1995).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.jpeg import decode_strictly
from cvbatch.images.jpeg_layout import EOI, SOI, Layout, read_layout, read_segments

_APPLICATION: Final = frozenset(range(0xE0, 0xF0))
_LOOSE: Final = 16
"""Rows and columns that a writer may add to fill the last blocks."""
_START: Final = b"\xff\xd8"
_ADOBE: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


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
    part = read_layout(packed)
    if part is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have no header")
    wide, high = part.size[0] - shape[1], part.size[1] - shape[0]
    if part.channels != shape[2] or not (0 <= wide < _LOOSE and 0 <= high < _LOOSE):
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have another size than it says")
    whole = read_layout(_joined(part, tables, transform=1 if luma_chroma else 0))
    if whole is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: the tables of its JPEG parts are damaged")
    return decode_strictly(whole).reshape(part.size[1], part.size[0], -1)


def _joined(part: Layout, tables: bytes, transform: int) -> bytes:
    """One JPEG of a part and its tables, with Adobe's mark, which tells libjpeg what three samples are."""
    segments = (*read_segments(tables, 2), *part.segments)
    kept = (each.encoded() for each in segments if each.marker not in _APPLICATION | {SOI, EOI})
    return b"".join((_START, _ADOBE, bytes([transform]), *kept, part.data[part.start :]))
