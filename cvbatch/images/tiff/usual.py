"""The usual TIFFs by Pillow, which unpacks LZW in half the time and knows these well."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, TiffImagePlugin

from cvbatch.images.formats import MALFORMED
from cvbatch.images.tiff.directory import Directory, Tag
from cvbatch.images.tiff.layout import Layout, spans_of
from cvbatch.images.tiff.meaning import COLOURS, Meaning, Photometric

_MODES: Final = {Photometric.BLACK_IS_ZERO: "L", Photometric.RGB: "RGB", Photometric.INKS: "CMYK"}
_COMPRESSIONS: Final = (1, 5, 32773)
_TOLD: Final = (Tag.SAMPLES_PER_PIXEL, Tag.BITS_PER_SAMPLE, Tag.PHOTOMETRIC)


def read_usual(directory: Directory, meaning: Meaning, layout: Layout) -> Image.Image | None:
    """Read a picture of 8 bits and nothing but colours, all of whose parts are in the file.

    Returns:
        Grey, RGB or CMYK, not turned; None where it is not of that kind, or Pillow does not read it.

    Raises:
        ImageError: As `cvbatch.images.tiff.layout.spans_of` does.
    """
    mode = _MODES.get(meaning.photometric)
    usual = meaning.compression in _COMPRESSIONS and meaning.bits == 8 and layout.planes == 1
    plain = meaning.samples == COLOURS[meaning.photometric] and not meaning.is_reversed
    told = all(tag in directory for tag in _TOLD)
    if mode is None or not (usual and plain and told) or layout.width * layout.height > (Image.MAX_IMAGE_PIXELS or 0):
        return None
    # Pillow leaves black what is missing.
    spans_of(directory, layout, lambda rows: rows * layout.columns * meaning.samples)
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(directory.data))
        image.load()
    except (*MALFORMED, Image.DecompressionBombError):
        return None
    return image if (image.mode, image.size) == (mode, (layout.width, layout.height)) else None
