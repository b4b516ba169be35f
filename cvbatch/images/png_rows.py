"""Check that a PNG has all its rows: if a complete stream has too few, Pillow leaves them zero."""

from __future__ import annotations

import zlib
from typing import Final

from cvbatch.images.png_chunks import CHANNEL_COUNTS, PngChunks

_ADAM7_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Passes of an interlaced picture: left, top, step to the right, step down (PNG specification, section 8)."""
_INFLATE_CHUNK_BYTES: Final = 1 << 14
"""Packed bytes per step; they become at most 16 MiB."""


def has_all_rows(packed: bytes, chunks: PngChunks) -> bool:
    """Whether the packed pixels have all rows; unpacks them in steps, without keeping them.

    Args:
        packed: Content of all IDAT chunks.
        chunks: Header with the expected size.
    """
    missing_bytes = _count_row_bytes(chunks)
    stream, view = zlib.decompressobj(), memoryview(packed)
    for start in range(0, len(packed), _INFLATE_CHUNK_BYTES):
        missing_bytes -= len(stream.decompress(view[start : start + _INFLATE_CHUNK_BYTES]))
        if missing_bytes <= 0:
            return True
    return False


def _count_row_bytes(chunks: PngChunks) -> int:
    """Count the unpacked bytes of all rows, with one filter byte each."""
    bits = chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type]
    total_bytes = 0
    for left, top, step_right, step_down in _ADAM7_PASSES if chunks.is_interlaced else ((0, 0, 1, 1),):
        width = max(0, -(-(chunks.width - left) // step_right))
        rows = max(0, -(-(chunks.height - top) // step_down))
        total_bytes += rows * (1 + -(-width * bits // 8)) if width else 0
    return total_bytes
