"""Windows of JPEGs: libvips reads rows from top to bottom, with libjpeg-turbo, so pixels are those of `read_jpeg`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.exif import parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.jpeg_damage import count_padding_bytes, describe_libjpeg_warning, find_silent_damage
from cvbatch.images.jpeg_layout import HUFFMAN_FRAMES, PROGRESSIVE_FRAMES, JpegLayout, read_jpeg_layout
from cvbatch.images.jpeg_metadata import find_exif_block, find_icc_profile, find_xmp_packet
from cvbatch.images.reading import ReadOptions, check_pixel_count
from cvbatch.images.row_bands import RowBands, rows_of_band

_BITS: Final = 8
_CHANNELS: Final = (1, 3)


def has_libvips() -> bool:
    """Whether the extra is installed that reads JPEGs in parts."""
    return importlib.util.find_spec("pyvips") is not None


def open_jpeg_windows(image_format: ImageFormat, data: bytes, options: ReadOptions) -> RowBands | None:
    """Open a JPEG; a `cvbatch.images.windows.WindowOpener`.

    Unusual JPEGs, and those whose colours are converted, are not read in parts. Of a progressive one, libjpeg keeps all
    coefficients: 3 bytes for each pixel with the usual subsampling.

    Raises:
        ImageError: As `cvbatch.images.jpeg.read_jpeg`; damaged pixels are noticed when they are read.
    """
    layout = read_jpeg_layout(data)
    if layout is None or not has_libvips() or not _is_usual(layout):
        return None
    if options.icc and find_icc_profile(layout.segments):
        return None
    check_pixel_count(*layout.size, options.max_pixels)
    if layout.scan_end is None:
        raise ImageError("TruncatedImage", "jpeg stops early: its end marker is missing")
    if damage := find_silent_damage(layout):
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    block = find_exif_block(layout.segments)
    tags = None if block is None else parse_exif_block(block)
    orientation = read_orientation(tags, find_xmp_packet(layout.segments))
    metadata = read_exif_metadata(tags) if options.exif else None
    return RowBands(layout.size, orientation, metadata, partial(_iter_jpeg_bands, layout))


def _is_usual(layout: JpegLayout) -> bool:
    is_huffman = layout.frame.marker in HUFFMAN_FRAMES | PROGRESSIVE_FRAMES
    has_usual_samples = layout.bits_per_sample == _BITS and layout.channel_count in _CHANNELS
    return is_huffman and has_usual_samples and layout.size[1] > 0


def _iter_jpeg_bands(layout: JpegLayout) -> Iterator[RgbArray]:
    vips, (width, height) = _import_vips(), layout.size
    image = _open_rows(vips, layout.to_minimal_jpeg())
    rows = rows_of_band(width)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        try:
            pixels = image.crop(0, top, width, count).write_to_memory()
        except vips.Error as error:
            padding_bytes = count_padding_bytes(_first_warning(error), layout)
            if not padding_bytes or layout.scan_end is None:
                message = describe_libjpeg_warning(_first_warning(error))
                raise ImageError("CorruptImage", f"jpeg is damaged: {message}") from None
            image = _open_rows(vips, layout.to_minimal_jpeg(scan_end=layout.scan_end - padding_bytes))
            pixels = image.crop(0, top, width, count).write_to_memory()
        band = np.frombuffer(pixels, np.uint8).reshape(count, width, -1)
        yield np.repeat(band, 3, axis=2) if band.shape[2] == 1 else band


def _open_rows(vips: Any, jpeg: bytes) -> Any:
    return vips.Image.jpegload_buffer(jpeg, access="sequential", fail_on="warning")


def _first_warning(error: Exception) -> str:
    """The line of libvips's message that libjpeg wrote."""
    lines = [line for line in str(error).splitlines() if "JPEG:" in line or "VipsJpeg:" in line]
    return lines[0].partition(":")[2].strip() if lines else " ".join(str(error).split())


@lru_cache(maxsize=1)
def _import_vips() -> Any:
    os.environ.setdefault("VIPS_CONCURRENCY", "1")  # read once; the cores are shared with the models
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips
