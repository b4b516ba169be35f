"""Parts of a TIFF that are JPEGs: their tables put back, their colours told, damage not let through.

How they are cut: TIFF technical note 2 (1995).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.jpeg import decode_embedded_jpeg
from cvbatch.images.jpeg_layout import EOI, SOI, JpegLayout, iter_jpeg_segments, read_jpeg_layout

_APPLICATION_MARKERS: Final = frozenset(range(0xE0, 0xF0))
_MAX_PADDING: Final = 16
"""Rows and columns that a writer may add to fill the last blocks."""
_SOI_BYTES: Final = b"\xff\xd8"
_ADOBE_SEGMENT: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def decode_jpeg_block(
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
    part = read_jpeg_layout(packed)
    if part is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have no header")
    wide, high = part.size[0] - shape[1], part.size[1] - shape[0]
    if part.channel_count != shape[2] or not (0 <= wide < _MAX_PADDING and 0 <= high < _MAX_PADDING):
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have another size than it says")
    whole = read_jpeg_layout(_join_jpeg_tables(part, tables, transform=1 if luma_chroma else 0))
    if whole is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: the tables of its JPEG parts are damaged")
    return decode_embedded_jpeg(whole).reshape(part.size[1], part.size[0], -1)


def _join_jpeg_tables(part: JpegLayout, tables: bytes, transform: int) -> bytes:
    """One JPEG of a part and its tables, with Adobe's mark, which tells libjpeg what three samples are."""
    segments = (*iter_jpeg_segments(tables, 2), *part.segments)
    kept = (each.to_bytes() for each in segments if each.marker not in _APPLICATION_MARKERS | {SOI, EOI})
    return b"".join((_SOI_BYTES, _ADOBE_SEGMENT, bytes([transform]), *kept, part.data[part.scan_start :]))
