"""Find the strips or tiles of a picture in a TIFF, and check their sizes before anything is unpacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.reading import check_pixel_count
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag

UNCOMPRESSED: Final = 1
_SMALL: Final = 1 << 20
"""Pixels that a tile may have even if `max_pixels` is smaller, because tiles may be larger than the picture."""

_MAX_BLOCKS: Final = 1 << 17
"""A million blocks of a few bytes take 28 s and 572 MB."""


@dataclass(frozen=True, slots=True)
class PixelBlock:
    """One strip or tile, with all samples or one plane."""

    packed: bytes
    plane: int
    """Index of the plane; 0 if the samples of a pixel are stored together."""
    top: int
    left: int
    rows: int
    """Stored rows; a tile may extend past the picture."""
    columns: int


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """How a picture is split into strips or tiles."""

    width: int
    height: int
    block_rows: int
    """Rows of a full strip or tile."""
    block_columns: int
    plane_count: int
    """1 if the samples of a pixel are stored together."""
    is_tiled: bool

    @property
    def block_count(self) -> int:
        """Number of strips or tiles."""
        return self.plane_count * self.blocks_down * self.blocks_across

    @property
    def blocks_down(self) -> int:
        """Blocks from top to bottom."""
        return -(-self.height // self.block_rows)

    @property
    def blocks_across(self) -> int:
        """Blocks from left to right."""
        return -(-self.width // self.block_columns)

    def get_stored_rows(self, block_index: int) -> int:
        """Return the number of rows that a block stores."""
        top = block_index // self.blocks_across % self.blocks_down * self.block_rows
        return self.block_rows if self.is_tiled else min(self.block_rows, self.height - top)


def read_block_layout(directory: TiffDirectory, samples: int, max_pixels: int) -> BlockLayout:
    """Read how a picture is split into blocks, and refuse too many pixels or blocks.

    Raises:
        ImageError: `TooManyPixels`, `CorruptImage` or `UnsupportedImage`.
    """
    width, height = directory.get_integer(TiffTag.WIDTH), directory.get_integer(TiffTag.HEIGHT)
    if width < 1 or height < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: the size of its picture is missing")
    check_pixel_count(width, height, max_pixels)
    is_tiled = TiffTag.TILE_OFFSETS in directory or TiffTag.TILE_WIDTH in directory
    if is_tiled:
        columns, rows = directory.get_integer(TiffTag.TILE_WIDTH), directory.get_integer(TiffTag.TILE_HEIGHT)
    else:
        columns, rows = width, min(directory.get_integer(TiffTag.ROWS_PER_STRIP, height) or height, height)
    if columns < 1 or rows < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: the size of its tiles is missing")
    check_pixel_count(columns, rows, max(max_pixels, _SMALL))
    planes = samples if directory.get_integer(TiffTag.PLANAR, 1) == 2 else 1
    layout = BlockLayout(width, height, rows, columns, planes, is_tiled)
    if layout.block_count > _MAX_BLOCKS:
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF of {layout.block_count} strips or tiles; save it with fewer"
        )
    return layout


def iter_pixel_blocks(
    directory: TiffDirectory, layout: BlockLayout, count_stored_bytes: Callable[[int], int]
) -> Iterator[PixelBlock]:
    """Yield the blocks of a picture in the order of the directory.

    Args:
        directory: Directory of the picture.
        layout: Layout of the picture.
        count_stored_bytes: Returns the uncompressed bytes of a number of rows of a block.

    Raises:
        ImageError: `TruncatedImage`, if a block is past the end of the file; `CorruptImage`, if one is missing.
    """
    spans = read_block_spans(directory, layout, count_stored_bytes)
    for index, (start, length) in enumerate(spans):
        plane, index_in_plane = divmod(index, layout.blocks_down * layout.blocks_across)
        block_row, block_column = divmod(index_in_plane, layout.blocks_across)
        top, left = block_row * layout.block_rows, block_column * layout.block_columns
        packed = directory.data[start : start + length]
        yield PixelBlock(packed, plane, top, left, layout.get_stored_rows(index), layout.block_columns)


def read_block_spans(
    directory: TiffDirectory, layout: BlockLayout, count_stored_bytes: Callable[[int], int]
) -> list[tuple[int, int]]:
    """Return (start, length) in bytes of each block of a picture; arguments as of `iter_pixel_blocks`.

    Raises:
        ImageError: `TruncatedImage`, if a block is past the end of the file; `CorruptImage`, if one is missing.
    """
    offsets = directory.get_integers(TiffTag.TILE_OFFSETS) or directory.get_integers(TiffTag.STRIP_OFFSETS)
    lengths = directory.get_integers(TiffTag.TILE_BYTE_COUNTS) or directory.get_integers(TiffTag.STRIP_BYTE_COUNTS)
    if len(offsets) < layout.block_count:
        raise ImageError(
            "CorruptImage", f"tiff cannot be decoded: it has {len(offsets)} of {layout.block_count} strips or tiles"
        )
    if directory.get_integer(TiffTag.COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        # Some writers omit the lengths or store wrong ones; without compression they are known.
        rows = (layout.get_stored_rows(index) for index in range(layout.block_count))
        lengths = tuple(map(count_stored_bytes, rows))
    elif not lengths and layout.block_count == 1:
        lengths = (len(directory.data) - offsets[0],)
    spans = list(zip(offsets, lengths, strict=False))[: layout.block_count]
    if len(spans) < layout.block_count or any(start == 0 or length <= 0 for start, length in spans):
        raise ImageError(
            "CorruptImage", f"tiff cannot be decoded: some of its {layout.block_count} strips or tiles are missing"
        )
    if any(start + length > len(directory.data) for start, length in spans):
        raise ImageError("TruncatedImage", "tiff stops early: some of its pixels are missing")
    return spans
