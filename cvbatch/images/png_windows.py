"""Windows of PNGs: rows are unpacked band by band, and each band becomes a PNG of its own for the usual reader.

The filters of a row refer to the row above (PNG specification, section 9), so a band is filtered back behind the last
row of the band before.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.exif import parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.png import damaged_png_error, png_to_rgb
from cvbatch.images.png_chunks import CHANNEL_COUNTS, PngChunks, read_png_chunks
from cvbatch.images.reading import ReadOptions, check_pixel_count
from cvbatch.images.row_bands import RowBands, rows_of_band

_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's modes by the bytes of a pixel, which the filters count in."""
_INFLATE_STEP: Final = 1 << 16


def open_png_windows(image_format: ImageFormat, data: bytes, options: ReadOptions) -> RowBands | None:
    """Open a PNG; a `cvbatch.images.windows.WindowOpener`.

    Interlaced pictures, and those with more than four bytes for a pixel, are not read in parts.

    Raises:
        ImageError: As `cvbatch.images.png.read_png`.
    """
    chunks = read_png_chunks(data)
    if chunks.is_interlaced or _pixel_bytes(chunks) not in _MODES:
        return None
    check_pixel_count(chunks.width, chunks.height, options.max_pixels)
    profile = chunks.icc_profile if options.icc else None
    tags = None if chunks.exif is None else parse_exif_block(chunks.exif)
    metadata = read_exif_metadata(tags) if options.exif else None
    bands = partial(_iter_bands, chunks, profile)
    return RowBands((chunks.width, chunks.height), read_orientation(tags, chunks.xmp), metadata, bands)


def _iter_bands(chunks: PngChunks, profile: bytes | None) -> Iterator[RgbArray]:
    row_bytes = (chunks.width * chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type] + 7) // 8
    pixel_bytes = _pixel_bytes(chunks)
    above = np.zeros((1, row_bytes), np.uint8)
    for packed in _iter_packed_rows(chunks, 1 + row_bytes):
        rows = np.frombuffer(packed, np.uint8).reshape(-1, 1 + row_bytes)
        filtered = np.concatenate([np.pad(above, ((0, 0), (1, 0))), rows])
        mode, size = _MODES[pixel_bytes], (row_bytes // pixel_bytes, len(filtered))
        image = Image.frombytes(mode, size, zlib.compress(filtered.data, 0), "zip", (mode, 0))
        plain = np.asarray(image).reshape(len(filtered), row_bytes)[1:]
        above = plain[-1:]
        band = replace(
            chunks, height=len(rows), image_data=[memoryview(zlib.compress(np.pad(plain, ((0, 0), (1, 0))).data, 0))]
        )
        yield np.asarray(png_to_rgb(band, profile))


def _iter_packed_rows(chunks: PngChunks, row_bytes: int) -> Iterator[bytes]:
    """Yield the rows of bands with their filters, as they are unpacked."""
    band_bytes, stream = rows_of_band(chunks.width) * row_bytes, zlib.decompressobj()
    missing_bytes, unpacked = chunks.height * row_bytes, bytearray()
    for part in chunks.image_data:
        for start in range(0, len(part), _INFLATE_STEP):
            unpacked += stream.decompress(part[start : start + _INFLATE_STEP])
            while len(unpacked) >= min(band_bytes, missing_bytes) > 0:
                count = min(band_bytes, missing_bytes)
                yield bytes(unpacked[:count])
                del unpacked[:count]
                missing_bytes -= count
    if missing_bytes:
        raise damaged_png_error()


def _pixel_bytes(chunks: PngChunks) -> int:
    return max(1, chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type] // 8)
