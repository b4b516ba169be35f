"""Read parts of a TIFF: only the strips or tiles that a part touches are unpacked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.exif import ExifMetadata
from cvbatch.images.file_view import FileBytes
from cvbatch.images.formats import ImageFormat
from cvbatch.images.reading import ReadOptions
from cvbatch.images.tiff.compose import compose_image
from cvbatch.images.tiff.directory import TiffTag, read_first_directory
from cvbatch.images.tiff.layout import UNCOMPRESSED, BlockLayout, PixelBlock, read_block_layout, read_block_spans
from cvbatch.images.tiff.pages import MainPage, read_embedded_jpeg, select_main_page
from cvbatch.images.tiff.pixel_format import Photometric, PixelFormat, read_pixel_format
from cvbatch.images.tiff.reader import read_directory_exif, read_page_orientation
from cvbatch.images.tiff.samples import BlockReader, SampleArray, SampleLevels

if TYPE_CHECKING:
    from cvbatch.images.tiles import Window

_CACHE_BYTES: Final = 128 << 20
"""Unpacked strips or tiles that are kept: a row of windows of 1,024 pixels across 30,000 columns of RGB."""
_MAX_BLOCK_BYTES: Final = 64 << 20
"""Pictures with larger strips or tiles are decoded as a whole, because each part would unpack nearly all of them."""
_PLAIN_ROWS: Final = 64


def open_tiff_windows(image_format: ImageFormat, data: FileBytes, options: ReadOptions) -> TiffWindows | None:
    """Open a TIFF to read parts of it; a `cvbatch.images.windows.WindowOpener`.

    Raises:
        ImageError: As `cvbatch.images.tiff.reader.read_tiff`.
    """
    first = read_first_directory(data)
    page = select_main_page(first)
    directory = page.directory
    if read_embedded_jpeg(directory) is not None:
        return None
    pixel_format = read_pixel_format(directory)
    layout = read_block_layout(directory, pixel_format.samples_per_pixel, options.max_pixels)
    pixels = TiffWindows(page, pixel_format, layout, options)
    if pixels.block_bytes > _MAX_BLOCK_BYTES:
        return None
    pixels.exif = read_directory_exif(first) if options.exif else None
    return pixels


class TiffWindows:
    """The `cvbatch.images.windows.StoredPixels` of one picture.

    Args:
        page: Of the picture.
        pixel_format: Meaning of its samples.
        layout: Its strips or tiles.
        options: As for decoding.

    Raises:
        ImageError: As `cvbatch.images.tiff.reader.read_tiff`.
    """

    def __init__(self, page: MainPage, pixel_format: PixelFormat, layout: BlockLayout, options: ReadOptions) -> None:
        directory = page.directory
        self.size = layout.width, layout.height
        self.orientation = read_page_orientation(page)
        self.exif: ExifMetadata | None = None
        self._directory, self._format = directory, pixel_format
        self._profile = directory.get_bytes(TiffTag.ICC_PROFILE) if options.icc else None
        reader = BlockReader(directory, pixel_format, layout, options.max_pixels)
        spans = read_block_spans(directory, layout, reader.count_stored_bytes)
        self._layout, self._spans = _split_plain_strips(layout, spans, pixel_format, reader)
        self._reader = BlockReader(directory, pixel_format, self._layout, options.max_pixels)
        self._levels = SampleLevels(pixel_format, self._layout)
        self._cache = _BlockCache()

    @property
    def block_bytes(self) -> int:
        """Unpacked bytes of a strip or tile."""
        return self._reader.count_stored_bytes(self._layout.block_rows)

    def read_stored(self, window: Window) -> RgbArray:
        """See `cvbatch.images.windows.StoredPixels.read_stored`."""
        samples = np.empty((window.height, window.width, self._levels.channel_count), self._levels.dtype)
        layout = self._layout
        for index in _touched_blocks(layout, window):
            plane = index // (layout.blocks_down * layout.blocks_across)
            if not self._levels.needs_plane(plane):
                continue
            block = self._to_block(index)
            top, left = max(block.top, window.top), max(block.left, window.left)
            bottom = min(block.top + layout.block_rows, window.top + window.height)
            right = min(block.left + layout.block_columns, window.left + window.width)
            numbers = self._cache.get_block(index)
            if numbers is None:
                numbers = self._reader.read_block(block)
                self._cache.add_block(index, numbers)
            part = numbers[top - block.top : bottom - block.top, left - block.left : right - block.left]
            target = samples[top - window.top : bottom - window.top, left - window.left : right - window.left]
            self._levels.copy_levels(part, plane, target)
        return np.asarray(compose_image(samples, self._format, self._directory, self._profile))

    def _to_block(self, index: int) -> PixelBlock:
        start, length = self._spans[index]
        plane, index_in_plane = divmod(index, self._layout.blocks_down * self._layout.blocks_across)
        row, column = divmod(index_in_plane, self._layout.blocks_across)
        return PixelBlock(
            self._directory.data[start : start + length],
            plane,
            row * self._layout.block_rows,
            column * self._layout.block_columns,
            self._layout.get_stored_rows(index),
            self._layout.block_columns,
        )


class _BlockCache:
    """The strips or tiles that were unpacked last."""

    def __init__(self) -> None:
        self._blocks = OrderedDict[int, SampleArray]()
        self._bytes = 0

    def get_block(self, index: int) -> SampleArray | None:
        if index in self._blocks:
            self._blocks.move_to_end(index)
        return self._blocks.get(index)

    def add_block(self, index: int, numbers: SampleArray) -> None:
        self._blocks[index] = numbers
        self._bytes += numbers.nbytes
        while self._bytes > _CACHE_BYTES and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].nbytes


def _touched_blocks(layout: BlockLayout, window: Window) -> Iterator[int]:
    rows = range(window.top // layout.block_rows, -(-(window.top + window.height) // layout.block_rows))
    columns = range(window.left // layout.block_columns, -(-(window.left + window.width) // layout.block_columns))
    for plane in range(layout.plane_count):
        for row in rows:
            first = (plane * layout.blocks_down + row) * layout.blocks_across
            yield from (first + column for column in columns)


def _split_plain_strips(
    layout: BlockLayout, spans: list[tuple[int, int]], pixel_format: PixelFormat, reader: BlockReader
) -> tuple[BlockLayout, list[tuple[int, int]]]:
    """Split strips that are not compressed, which may be as high as the picture, into strips of a few rows."""
    is_plain = pixel_format.compression == UNCOMPRESSED and pixel_format.photometric != Photometric.YCBCR
    if layout.is_tiled or not is_plain or layout.block_rows <= _PLAIN_ROWS:
        return layout, spans
    # a divisor, so that no part lies in two strips
    rows = next(rows for rows in range(_PLAIN_ROWS, 0, -1) if layout.block_rows % rows == 0)
    split = replace(layout, block_rows=rows)
    row_bytes, parts = reader.count_stored_bytes(1), layout.block_rows // rows
    split_spans = []
    for index in range(split.block_count):
        plane, part = divmod(index, split.blocks_down)
        start = spans[plane * layout.blocks_down + part // parts][0] + part % parts * rows * row_bytes
        split_spans.append((start, split.get_stored_rows(index) * row_bytes))
    return split, split_spans
