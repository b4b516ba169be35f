"""Where the parts of a picture lie in a TIFF, and how large each one is before anything is unpacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.reading import check_pixel_count
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag

UNCOMPRESSED: Final = 1
_SMALL: Final = 1 << 20
"""Tiles may be larger than a small picture, which `max_pixels` says nothing of."""

_MAX_BLOCKS: Final = 1 << 17
"""A million of them, each a few bytes, took 28 s and 572 MB."""


@dataclass(frozen=True, slots=True)
class PixelBlock:
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
class BlockLayout:
    """How the picture of a directory is cut up."""

    width: int
    height: int
    block_rows: int
    """Of a full strip or tile."""
    block_columns: int
    plane_count: int
    """1 where all samples of a pixel lie together."""
    is_tiled: bool

    @property
    def block_count(self) -> int:
        """How many parts there are."""
        return self.plane_count * self.blocks_down * self.blocks_across

    @property
    def blocks_down(self) -> int:
        """Parts from top to bottom."""
        return -(-self.height // self.block_rows)

    @property
    def blocks_across(self) -> int:
        """Parts from left to right."""
        return -(-self.width // self.block_columns)

    def get_stored_rows(self, block_index: int) -> int:
        """Rows that part `block_index` stores."""
        top = block_index // self.blocks_across % self.blocks_down * self.block_rows
        return self.block_rows if self.is_tiled else min(self.block_rows, self.height - top)


def read_block_layout(directory: TiffDirectory, samples: int, max_pixels: int) -> BlockLayout:
    """Read how a picture is cut up, and refuse what promises too much.

    Raises:
        ImageError: `TooManyPixels` or `CorruptImage`.
    """
    width, height = directory.get_integer(TiffTag.WIDTH), directory.get_integer(TiffTag.HEIGHT)
    if width < 1 or height < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it does not say how large its picture is")
    check_pixel_count(width, height, max_pixels)
    tiled = TiffTag.TILE_OFFSETS in directory or TiffTag.TILE_WIDTH in directory
    if tiled:
        columns, rows = directory.get_integer(TiffTag.TILE_WIDTH), directory.get_integer(TiffTag.TILE_HEIGHT)
    else:
        columns, rows = width, min(directory.get_integer(TiffTag.ROWS_PER_STRIP, height) or height, height)
    if columns < 1 or rows < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: it does not say how large its tiles are")
    check_pixel_count(columns, rows, max(max_pixels, _SMALL))
    planes = samples if directory.get_integer(TiffTag.PLANAR, 1) == 2 else 1
    layout = BlockLayout(width, height, rows, columns, planes, tiled)
    if layout.block_count > _MAX_BLOCKS:
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF cut into {layout.block_count} parts; save it in fewer"
        )
    return layout


def iter_pixel_blocks(
    directory: TiffDirectory, layout: BlockLayout, count_stored_bytes: Callable[[int], int]
) -> Iterator[PixelBlock]:
    """The parts of a picture in the order of the file, cut out of it.

    Args:
        directory: Of the picture.
        layout: Its own.
        count_stored_bytes: How many bytes so many rows of a part are, where they are not compressed.

    Raises:
        ImageError: `TruncatedImage`, where the file stops before a part; `CorruptImage`, where one is missing.
    """
    spans = read_block_spans(directory, layout, count_stored_bytes)
    for number, (begin, length) in enumerate(spans):
        place, plane = (
            number % (layout.blocks_down * layout.blocks_across),
            number // (layout.blocks_down * layout.blocks_across),
        )
        top, left = (
            place // layout.blocks_across * layout.block_rows,
            place % layout.blocks_across * layout.block_columns,
        )
        packed = directory.data[begin : begin + length]
        yield PixelBlock(packed, plane, top, left, layout.get_stored_rows(number), layout.block_columns)


def read_block_spans(
    directory: TiffDirectory, layout: BlockLayout, count_stored_bytes: Callable[[int], int]
) -> list[tuple[int, int]]:
    """(begin, length) in bytes of the parts of a picture; see `iter_pixel_blocks`.

    Raises:
        ImageError: `TruncatedImage`, where the file stops before a part; `CorruptImage`, where one is missing.
    """
    offsets = directory.get_integers(TiffTag.TILE_OFFSETS) or directory.get_integers(TiffTag.STRIP_OFFSETS)
    lengths = directory.get_integers(TiffTag.TILE_BYTE_COUNTS) or directory.get_integers(TiffTag.STRIP_BYTE_COUNTS)
    if len(offsets) < layout.block_count:
        raise ImageError("CorruptImage", f"tiff cannot be decoded: it has {len(offsets)} of {layout.block_count} parts")
    if directory.get_integer(TiffTag.COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        # Some writers leave the lengths out or get them wrong; here they are known.
        rows = (layout.get_stored_rows(number) for number in range(layout.block_count))
        lengths = tuple(map(count_stored_bytes, rows))
    elif not lengths and layout.block_count == 1:
        lengths = (len(directory.data) - offsets[0],)
    spans = list(zip(offsets, lengths, strict=False))[: layout.block_count]
    if len(spans) < layout.block_count or any(begin == 0 or length <= 0 for begin, length in spans):
        raise ImageError("CorruptImage", f"tiff cannot be decoded: some of its {layout.block_count} parts are missing")
    if any(begin + length > len(directory.data) for begin, length in spans):
        raise ImageError("TruncatedImage", "tiff stops early: some of its pixels are not there")
    return spans
