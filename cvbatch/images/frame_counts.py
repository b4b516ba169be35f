"""Count the frames of animated files from their headers, as Pillow counts them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import ByteRanges, read_all
from cvbatch.images.formats import MALFORMED_ERRORS, identify_format
from cvbatch.images.heif_items import count_heif_pictures
from cvbatch.images.pillow_guards import quiet_pillow

_HEADER_BYTES: Final = 4096
_STREAM_BYTES: Final = 1 << 20
_ANIMATION_FLAG: Final = 2
"""In the first byte of a `VP8X` chunk (WebP container specification)."""


def count_frames(file: ByteRanges, max_frames: int) -> int:
    """Count the frames of an animation, or the pictures of a HEIC; 1 for all other files.

    Args:
        file: The file; only as much as is needed is read.
        max_frames: Counting ends after one frame more.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`, if frames follow that cannot be counted.
    """
    try:
        name = identify_format(file.read_range(0, _HEADER_BYTES)).name
    except ImageError:
        return 1  # decoding says what it is
    counter = _COUNTERS.get(name)
    return 1 if counter is None else max(1, counter(file, max_frames))


class _Cursor:
    """Reads a file forward, in large blocks."""

    def __init__(self, file: ByteRanges) -> None:
        self._file, self._block, self._block_start = file, b"", 0
        self.position = 0

    def read(self, count: int) -> bytes:
        """Read some bytes; fewer at the end of the file."""
        start = self.position - self._block_start
        if start < 0 or start + count > len(self._block):
            self._block, self._block_start = (
                self._file.read_range(self.position, max(count, _STREAM_BYTES)),
                self.position,
            )
            start = 0
        self.position += count
        return self._block[start : start + count]


def _count_gif_frames(file: ByteRanges, max_frames: int) -> int:
    """Count the image descriptors (GIF89a, 20); bytes between blocks are skipped, as Pillow does."""
    cursor, count = _Cursor(file), 0
    flags = cursor.read(13)[10:11]
    _skip_colour_table(cursor, flags)
    while (introducer := cursor.read(1)) and introducer != b";" and count <= max_frames:
        if introducer == b"!":
            cursor.read(1)
            _skip_sub_blocks(cursor)
        elif introducer == b",":
            descriptor = cursor.read(9)
            count += len(descriptor) == 9
            _skip_colour_table(cursor, descriptor[8:9])
            cursor.read(1)
            _skip_sub_blocks(cursor)
    return count


def _skip_colour_table(cursor: _Cursor, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        cursor.position += 3 << ((flags[0] & 7) + 1)


def _skip_sub_blocks(cursor: _Cursor) -> None:
    while (size := cursor.read(1)) and size[0]:
        cursor.position += size[0]


def _count_png_frames(file: ByteRanges, max_frames: int) -> int:
    """Read the chunk `acTL` (PNG, third edition, 11.3.5); a default image that is no frame counts as one, first."""
    position, frames, is_first_frame = 8, 0, False
    while len(head := file.read_range(position, 8)) == 8 and head[4:] != b"IDAT":
        if head[4:] == b"acTL":
            frames = int.from_bytes(file.read_range(position + 8, 4), "big")
        is_first_frame |= head[4:] == b"fcTL"
        position += 12 + int.from_bytes(head[:4], "big")
    return min(frames + (not is_first_frame), max_frames + 1) if 0 < frames <= 0x80000000 else 1


def _count_webp_frames(file: ByteRanges, max_frames: int) -> int:
    head = file.read_range(12, 9)
    if head[:4] != b"VP8X" or not head[8:] or not head[8] & _ANIMATION_FLAG:
        return 1
    position, count, end = 12, 0, min(file.byte_size(), int.from_bytes(file.read_range(4, 4), "little") + 8)
    while position + 8 <= end and count <= max_frames:
        head = file.read_range(position, 8)
        position += 8 + int.from_bytes(head[4:], "little") + head[4] % 2
        count += head[:4] == b"ANMF" and position <= end
    return count


def _count_avif_frames(file: ByteRanges, max_frames: int) -> int:
    brands = file.read_range(8, 256)
    return _count_by_library(file) if b"avis" in brands else 1


def _count_heif_frames(file: ByteRanges, max_frames: int) -> int:
    return _count_by_library(file) if count_heif_pictures(file) > 1 else 1


def _count_by_library(file: ByteRanges) -> int:
    data = read_all(file)
    try:
        with quiet_pillow:
            return int(getattr(identify_format(data).open(io.BytesIO(data)), "n_frames", 1))
    except ImageError as error:
        if error.kind == "MissingExtra":
            return 1
        raise
    except MALFORMED_ERRORS as error:
        raise ImageError("CorruptImage", f"its frames cannot be counted: {error or type(error).__name__}") from None


_COUNTERS: Final[Mapping[str, Callable[[ByteRanges, int], int]]] = {
    "gif": _count_gif_frames,
    "png": _count_png_frames,
    "webp": _count_webp_frames,
    "avif": _count_avif_frames,
    "heif": _count_heif_frames,
}
