"""Where the parts of a picture lie in a TIFF, and how large each one is before anything is unpacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.reading import check_pixels
from cvbatch.images.tiff.directory import Directory, Tag

UNCOMPRESSED: Final = 1
_SMALL: Final = 1 << 20
"""Tiles may be larger than a small picture, which `max_pixels` says nothing of."""

_MOST_PARTS: Final = 1 << 17
"""A million of them, each a few bytes, took 28 s and 572 MB."""


@dataclass(frozen=True, slots=True)
class Part:
    """One strip or tile, of all samples or of one plane."""

    packed: bytes
    plane: int
    """0 where all samples lie together."""
    top: int
    left: int
    rows: int
    """Rows that are stored; those of a tile may run past the picture."""
    columns: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How the picture of a directory is cut up."""

    width: int
    height: int
    rows: int
    """Of a full strip or tile."""
    columns: int
    planes: int
    """1 where all samples of a pixel lie together."""
    is_tiled: bool

    @property
    def count(self) -> int:
        """How many parts there are."""
        return self.planes * self.down * self.across

    @property
    def down(self) -> int:
        """Parts from top to bottom."""
        return -(-self.height // self.rows)

    @property
    def across(self) -> int:
        """Parts from left to right."""
        return -(-self.width // self.columns)

    def rows_of(self, number: int) -> int:
        """Rows that part `number` stores."""
        top = number // self.across % self.down * self.rows
        return self.rows if self.is_tiled else min(self.rows, self.height - top)


def layout_of(directory: Directory, samples: int, max_pixels: int) -> Layout:
    """Read how a picture is cut up, and refuse what promises too much.

    Raises:
        ImageError: `TooManyPixels` or `CorruptImage`.
    """
    width, height = directory.number(Tag.WIDTH), directory.number(Tag.HEIGHT)
    if width < 1 or height < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it does not say how large its picture is")
    check_pixels(width, height, max_pixels)
    tiled = Tag.TILE_OFFSETS in directory or Tag.TILE_WIDTH in directory
    if tiled:
        columns, rows = directory.number(Tag.TILE_WIDTH), directory.number(Tag.TILE_HEIGHT)
    else:
        columns, rows = width, min(directory.number(Tag.ROWS_PER_STRIP, height) or height, height)
    if columns < 1 or rows < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it does not say how large its tiles are")
    check_pixels(columns, rows, max(max_pixels, _SMALL))
    planes = samples if directory.number(Tag.PLANAR, 1) == 2 else 1
    layout = Layout(width, height, rows, columns, planes, tiled)
    if layout.count > _MOST_PARTS:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF cut into {layout.count} parts; save it in fewer")
    return layout


def parts_of(directory: Directory, layout: Layout, stored_bytes: Callable[[int], int]) -> Iterator[Part]:
    """The parts of a picture in the order of the file, cut out of it.

    Args:
        directory: Of the picture.
        layout: Its own.
        stored_bytes: How many bytes so many rows of a part are, where they are not compressed.

    Raises:
        ImageError: `TruncatedImage`, where the file stops before a part; `CorruptImage`, where one is missing.
    """
    spans = spans_of(directory, layout, stored_bytes)
    for number, (begin, length) in enumerate(spans):
        place, plane = number % (layout.down * layout.across), number // (layout.down * layout.across)
        top, left = place // layout.across * layout.rows, place % layout.across * layout.columns
        packed = directory.data[begin : begin + length]
        yield Part(packed, plane, top, left, layout.rows_of(number), layout.columns)


def spans_of(directory: Directory, layout: Layout, stored_bytes: Callable[[int], int]) -> list[tuple[int, int]]:
    """(begin, length) in bytes of the parts of a picture; see `parts_of`.

    Raises:
        ImageError: `TruncatedImage`, where the file stops before a part; `CorruptImage`, where one is missing.
    """
    offsets = directory.numbers(Tag.TILE_OFFSETS) or directory.numbers(Tag.STRIP_OFFSETS)
    lengths = directory.numbers(Tag.TILE_BYTE_COUNTS) or directory.numbers(Tag.STRIP_BYTE_COUNTS)
    if len(offsets) < layout.count:
        raise ImageError("CorruptImage", f"tiff cannot be decoded: it has {len(offsets)} of {layout.count} parts")
    if directory.number(Tag.COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        # Some writers leave the lengths out or get them wrong; here they are known.
        rows = (layout.rows_of(number) for number in range(layout.count))
        lengths = tuple(map(stored_bytes, rows))
    elif not lengths and layout.count == 1:
        lengths = (len(directory.data) - offsets[0],)
    spans = list(zip(offsets, lengths, strict=False))[: layout.count]
    if len(spans) < layout.count or any(begin == 0 or length <= 0 for begin, length in spans):
        raise ImageError("CorruptImage", f"tiff cannot be decoded: some of its {layout.count} parts are missing")
    if any(begin + length > len(directory.data) for begin, length in spans):
        raise ImageError("TruncatedImage", "tiff stops early: some of its pixels are not there")
    return spans
