"""Whether all rows of a PNG are in its pixels: Pillow leaves zeros for those that a whole stream does not hold."""

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
"""Of an interlaced picture: left, top, and the steps to the right and down (section 8 of the format's text)."""
_INFLATE_CHUNK_BYTES: Final = 1 << 14
"""Packed bytes at a time, which become 16 MiB at most."""


def has_all_rows(packed: bytes, chunks: PngChunks) -> bool:
    """Count what is packed, without keeping it.

    Args:
        packed: Content of all IDAT chunks.
        chunks: With the size that it should have.
    """
    missing = _count_row_bytes(chunks)
    stream, view = zlib.decompressobj(), memoryview(packed)
    for at in range(0, len(packed), _INFLATE_CHUNK_BYTES):
        missing -= len(stream.decompress(view[at : at + _INFLATE_CHUNK_BYTES]))
        if missing <= 0:
            return True
    return False


def _count_row_bytes(chunks: PngChunks) -> int:
    """Bytes of all rows, each with the number of its filter."""
    bits = chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type]
    total = 0
    for left, top, right, down in _ADAM7_PASSES if chunks.is_interlaced else ((0, 0, 1, 1),):
        width = max(0, -(-(chunks.width - left) // right))
        rows = max(0, -(-(chunks.height - top) // down))
        total += rows * (1 + -(-width * bits // 8)) if width else 0
    return total
