"""Count the frames of animated files from their headers, as Pillow counts them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import ByteRanges, read_all
from cvbatch.images.formats import MALFORMED_ERRORS, identify_format
from cvbatch.images.heif_items import count_heif_pictures
from cvbatch.images.pillow_guards import quiet_pillow

_HEADER_BYTES: Final = 4096
_STREAM_BYTES: Final = 1 << 20
_ANIMATION_FLAG: Final = 2
"""In the first byte of a `VP8X` chunk (WebP container specification)."""


@dataclass(frozen=True, slots=True)
class FrameCount:
    """Frames of a file."""

    count: int
    frame_bytes: int | None = None
    """Bytes of a frame that is not compressed, about."""


_ONE: Final = FrameCount(1)
_PIXEL_BYTES: Final = 4


def count_frames(file: ByteRanges, max_frames: int) -> FrameCount:
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
        return _ONE  # decoding says what it is
    counter = _COUNTERS.get(name)
    found = _ONE if counter is None else counter(file, max_frames)
    return found if found.count > 1 else _ONE


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


def _count_gif_frames(file: ByteRanges, max_frames: int) -> FrameCount:
    """Count the image descriptors (GIF89a, 20); bytes between blocks are skipped, as Pillow does."""
    cursor, count = _Cursor(file), 0
    screen = cursor.read(13)
    _skip_colour_table(cursor, screen[10:11])
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
    return FrameCount(count, _frame_bytes(screen[6:8], screen[8:10], "little"))


def _frame_bytes(width: bytes, height: bytes, order: Literal["little", "big"], added: int = 0) -> int:
    sides = (int.from_bytes(side, order) + added for side in (width, height))
    return math.prod(sides) * _PIXEL_BYTES


def _skip_colour_table(cursor: _Cursor, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        cursor.position += 3 << ((flags[0] & 7) + 1)


def _skip_sub_blocks(cursor: _Cursor) -> None:
    while (size := cursor.read(1)) and size[0]:
        cursor.position += size[0]


def _count_png_frames(file: ByteRanges, max_frames: int) -> FrameCount:
    """Read the chunk `acTL` (PNG, third edition, 11.3.5); a default image that is no frame counts as one, first."""
    position, frames, is_first_frame = 8, 0, False
    while len(head := file.read_range(position, 8)) == 8 and head[4:] != b"IDAT":
        if head[4:] == b"acTL":
            frames = int.from_bytes(file.read_range(position + 8, 4), "big")
        is_first_frame |= head[4:] == b"fcTL"
        position += 12 + int.from_bytes(head[:4], "big")
    if not 0 < frames <= 0x80000000:
        return _ONE
    sides = file.read_range(16, 8)
    return FrameCount(min(frames + (not is_first_frame), max_frames + 1), _frame_bytes(sides[:4], sides[4:], "big"))


def _count_webp_frames(file: ByteRanges, max_frames: int) -> FrameCount:
    head = file.read_range(12, 9)
    if head[:4] != b"VP8X" or not head[8:] or not head[8] & _ANIMATION_FLAG:
        return _ONE
    position, count, end = 12, 0, min(file.byte_size(), int.from_bytes(file.read_range(4, 4), "little") + 8)
    while position + 8 <= end and count <= max_frames:
        head = file.read_range(position, 8)
        position += 8 + int.from_bytes(head[4:], "little") + head[4] % 2
        count += head[:4] == b"ANMF" and position <= end
    sides = file.read_range(24, 6)
    return FrameCount(count, _frame_bytes(sides[:3], sides[3:], "little", 1))


def _count_avif_frames(file: ByteRanges, max_frames: int) -> FrameCount:
    brands = file.read_range(8, 256)
    return _count_by_library(file) if b"avis" in brands else _ONE


def _count_heif_frames(file: ByteRanges, max_frames: int) -> FrameCount:
    return _count_by_library(file) if count_heif_pictures(file) > 1 else _ONE


def _count_by_library(file: ByteRanges) -> FrameCount:
    data = read_all(file)
    try:
        with quiet_pillow:
            image = identify_format(data).open(io.BytesIO(data))
            return FrameCount(int(getattr(image, "n_frames", 1)), image.width * image.height * _PIXEL_BYTES)
    except ImageError as error:
        if error.kind == "MissingExtra":
            return _ONE
        raise
    except MALFORMED_ERRORS as error:
        raise ImageError("CorruptImage", f"its frames cannot be counted: {error or type(error).__name__}") from None


_COUNTERS: Final[Mapping[str, Callable[[ByteRanges, int], FrameCount]]] = {
    "gif": _count_gif_frames,
    "png": _count_png_frames,
    "webp": _count_webp_frames,
    "avif": _count_avif_frames,
    "heif": _count_heif_frames,
}
