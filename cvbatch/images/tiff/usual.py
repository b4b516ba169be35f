"""The usual TIFFs by Pillow, which unpacks LZW in half the time and knows these well."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, TiffImagePlugin

from cvbatch.images.formats import MALFORMED_ERRORS
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag
from cvbatch.images.tiff.layout import BlockLayout, read_block_spans
from cvbatch.images.tiff.meaning import COLOUR_SAMPLES, Photometric, PixelFormat

_PILLOW_MODES: Final = {Photometric.BLACK_IS_ZERO: "L", Photometric.RGB: "RGB", Photometric.INKS: "CMYK"}
_PILLOW_COMPRESSIONS: Final = (1, 5, 32773)
_REQUIRED_TAGS: Final = (TiffTag.SAMPLES_PER_PIXEL, TiffTag.BITS_PER_SAMPLE, TiffTag.PHOTOMETRIC)


def read_usual_tiff(directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout) -> Image.Image | None:
    """Read a picture of 8 bits and nothing but colours, all of whose parts are in the file.

    Returns:
        Grey, RGB or CMYK, not turned; None where it is not of that kind, or Pillow does not read it.

    Raises:
        ImageError: As `cvbatch.images.tiff.layout.read_block_spans` does.
    """
    mode = _PILLOW_MODES.get(pixel_format.photometric)
    usual = (
        pixel_format.compression in _PILLOW_COMPRESSIONS
        and pixel_format.bits_per_sample == 8
        and layout.plane_count == 1
    )
    plain = (
        pixel_format.samples_per_pixel == COLOUR_SAMPLES[pixel_format.photometric]
        and not pixel_format.has_reversed_bits
    )
    told = all(tag in directory for tag in _REQUIRED_TAGS)
    if mode is None or not (usual and plain and told) or layout.width * layout.height > (Image.MAX_IMAGE_PIXELS or 0):
        return None
    # Pillow leaves black what is missing.
    read_block_spans(directory, layout, lambda rows: rows * layout.block_columns * pixel_format.samples_per_pixel)
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(directory.data))
        image.load()
    except (*MALFORMED_ERRORS, Image.DecompressionBombError):
        return None
    return image if (image.mode, image.size) == (mode, (layout.width, layout.height)) else None
