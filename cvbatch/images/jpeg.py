"""JPEGs, by libjpeg-turbo through simplejpeg: the pixels are those that Pillow gives, and damage is noticed."""

from __future__ import annotations

import io
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import Image, ImageFile

from cvbatch.errors import ImageError
from cvbatch.images.exif import orientation, read_facts, read_tags
from cvbatch.images.formats import MALFORMED, Format
from cvbatch.images.jpeg_damage import in_words, loses_nothing, unnoticed_damage
from cvbatch.images.jpeg_layout import Layout, read_layout
from cvbatch.images.reading import Picture, ReadOptions, check_pixels

_CHANNELS: Final = (1, 3, 4)
_GREY: Final = 128


def read_jpeg(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a JPEG; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    layout = read_layout(data)
    if layout is None:
        cut = kind.lacks_end(data, 0)
        raise ImageError(
            "TruncatedImage" if cut else "CorruptImage",
            "jpeg stops before its pixels begin" if cut else "jpeg cannot be decoded: its header leads to no pixels",
        )
    width, height = layout.size
    check_pixels(width, height, options.max_pixels)
    warning = None if layout.end else "its end marker is missing"
    if warning and not options.keep_damaged:
        raise ImageError("TruncatedImage", f"jpeg stops early: {warning}")
    header = kind.open(io.BytesIO(data))
    pixels, damage = _decode(layout, _scale(layout.size, options.enough), keep=options.keep_damaged)
    tags = read_tags(header)
    facts = read_facts(tags) if options.exif else None
    return Picture(_to_image(pixels), layout.size, orientation(tags), facts, warning or damage)
