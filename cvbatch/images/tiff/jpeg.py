"""Decode strips and tiles that are JPEGs: add their tables, declare their colours, refuse damage.

Source: TIFF technical note 2 (1995).
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
"""Fewer than this many rows and columns may be added by a writer to fill the last blocks."""
_SOI_BYTES: Final = b"\xff\xd8"
_ADOBE_SEGMENT: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def decode_jpeg_block(
    packed: bytes, tables: bytes, shape: tuple[int, int, int], *, luma_chroma: bool
) -> npt.NDArray[np.uint8]:
    """Decode one strip or tile.

    Args:
        packed: JPEG, usually without its tables.
        tables: JPEG that contains only tables; may be empty.
        shape: Expected (rows, columns, samples).
        luma_chroma: Whether three samples are luma and chroma, to be converted to RGB.

    Returns:
        uint8 (rows, columns, samples) of that shape, or with a few more rows and columns.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    part = read_jpeg_layout(packed)
    if part is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have no header")
    extra_columns, extra_rows = part.size[0] - shape[1], part.size[1] - shape[0]
    if part.channel_count != shape[2] or not (0 <= extra_columns < _MAX_PADDING and 0 <= extra_rows < _MAX_PADDING):
        raise ImageError("CorruptImage", "tiff cannot be decoded: its JPEG parts have another size than it declares")
    layout = read_jpeg_layout(_join_jpeg_tables(part, tables, transform=1 if luma_chroma else 0))
    if layout is None:
        raise ImageError("CorruptImage", "tiff cannot be decoded: the tables of its JPEG parts are damaged")
    return decode_embedded_jpeg(layout).reshape(part.size[1], part.size[0], -1)


def _join_jpeg_tables(part: JpegLayout, tables: bytes, transform: int) -> bytes:
    """Join a part and its tables to one JPEG, with Adobe's marker, which tells libjpeg the colour space."""
    segments = (*iter_jpeg_segments(tables, 2), *part.segments)
    dropped_markers = _APPLICATION_MARKERS | {SOI, EOI}
    headers = (segment.to_bytes() for segment in segments if segment.marker not in dropped_markers)
    return b"".join((_SOI_BYTES, _ADOBE_SEGMENT, bytes([transform]), *headers, part.data[part.scan_start :]))
