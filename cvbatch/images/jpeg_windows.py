"""Windows of JPEGs: libvips reads rows from top to bottom, with libjpeg-turbo, so pixels are those of `read_jpeg`."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.exif import parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.jpeg import find_damaged_pixels
from cvbatch.images.jpeg_damage import find_silent_damage
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

    Unusual JPEGs are not read in parts. Of a progressive one, libjpeg keeps all coefficients: 3 bytes for each pixel
    with the usual subsampling.

    Raises:
        ImageError: As `cvbatch.images.jpeg.read_jpeg`; damaged pixels are noticed when they are read.
    """
    layout = read_jpeg_layout(data)
    if layout is None or not has_libvips() or not _is_usual(layout):
        return None
    check_pixel_count(*layout.size, options.max_pixels)
    if layout.scan_end is None:
        raise ImageError("TruncatedImage", "jpeg stops early: its end marker is missing")
    if damage := find_silent_damage(layout):
        raise ImageError("CorruptImage", f"jpeg is damaged: {damage}")
    profile = find_icc_profile(layout.segments) if options.icc else None
    block = find_exif_block(layout.segments)
    tags = None if block is None else parse_exif_block(block)
    orientation = read_orientation(tags, find_xmp_packet(layout.segments))
    metadata = read_exif_metadata(tags) if options.exif else None
    minimal = read_jpeg_layout(layout.to_minimal_jpeg())
    assert minimal is not None, "it has the segments of a JPEG"
    return RowBands(layout.size, orientation, metadata, partial(_iter_jpeg_bands, minimal, profile))


def _is_usual(layout: JpegLayout) -> bool:
    is_huffman = layout.frame.marker in HUFFMAN_FRAMES | PROGRESSIVE_FRAMES
    has_usual_samples = layout.bits_per_sample == _BITS and layout.channel_count in _CHANNELS
    return is_huffman and has_usual_samples and layout.size[1] > 0


def _iter_jpeg_bands(layout: JpegLayout, profile: bytes | None) -> Iterator[RgbArray]:
    vips, (width, height) = _import_vips(), layout.size
    open_rows = partial(vips.Image.jpegload_buffer, layout.data, access="sequential")
    image, rows = open_rows(fail_on="warning"), rows_of_band(width)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        try:
            pixels = image.crop(0, top, width, count).write_to_memory()
        except vips.Error:
            if damage := find_damaged_pixels(layout):
                raise ImageError("CorruptImage", f"jpeg is damaged: {damage}") from None
            image = open_rows(fail_on="none")
            pixels = image.crop(0, top, width, count).write_to_memory()
        band = np.frombuffer(pixels, np.uint8).reshape(count, width, -1)
        if profile is None and band.shape[2] == 3:
            yield band
        else:
            yield np.asarray(convert_to_rgb(Image.fromarray(band[..., 0] if band.shape[2] == 1 else band), profile))


@lru_cache(maxsize=1)
def _import_vips() -> Any:
    os.environ.setdefault("VIPS_CONCURRENCY", "1")  # read once; the cores are shared with the models
    import pyvips

    pyvips.cache_set_max(0)
    logging.getLogger("pyvips").setLevel(logging.ERROR)  # what it warns of is the error of a row
    return pyvips
