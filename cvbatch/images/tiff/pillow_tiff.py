"""Read common kinds of TIFFs with Pillow, which unpacks LZW in half the time."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, TiffImagePlugin

from cvbatch.images.formats import MALFORMED_ERRORS
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag
from cvbatch.images.tiff.layout import BlockLayout, read_block_spans
from cvbatch.images.tiff.pixel_format import COLOUR_SAMPLES, Photometric, PixelFormat

_PILLOW_MODES: Final = {Photometric.BLACK_IS_ZERO: "L", Photometric.RGB: "RGB", Photometric.INKS: "CMYK"}
_PILLOW_COMPRESSIONS: Final = (1, 5, 32773)
_REQUIRED_TAGS: Final = (TiffTag.SAMPLES_PER_PIXEL, TiffTag.BITS_PER_SAMPLE, TiffTag.PHOTOMETRIC)


def read_usual_tiff(directory: TiffDirectory, pixel_format: PixelFormat, layout: BlockLayout) -> Image.Image | None:
    """Read a picture with only colour samples of 8 bits, after checking that its strips or tiles are in the file.

    Returns:
        Grey, RGB or CMYK; None if the picture is of another kind, or Pillow cannot read it.

    Raises:
        ImageError: As `cvbatch.images.tiff.layout.read_block_spans`.
    """
    mode = _PILLOW_MODES.get(pixel_format.photometric)
    is_usual_storage = (
        pixel_format.compression in _PILLOW_COMPRESSIONS
        and pixel_format.bits_per_sample == 8
        and layout.plane_count == 1
    )
    has_only_colours = (
        pixel_format.samples_per_pixel == COLOUR_SAMPLES[pixel_format.photometric]
        and not pixel_format.has_reversed_bits
    )
    has_required_tags = all(tag in directory for tag in _REQUIRED_TAGS)
    is_within_limit = layout.width * layout.height <= (Image.MAX_IMAGE_PIXELS or 0)
    if mode is None or not (is_usual_storage and has_only_colours and has_required_tags and is_within_limit):
        return None
    # Pillow leaves missing parts black.
    read_block_spans(directory, layout, lambda rows: rows * layout.block_columns * pixel_format.samples_per_pixel)
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(directory.data[:]))
        image.load()
    except (*MALFORMED_ERRORS, Image.DecompressionBombError):
        return None
    return image if (image.mode, image.size) == (mode, (layout.width, layout.height)) else None
