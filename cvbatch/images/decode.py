"""Decode image files to oriented RGB pixels: the whole picture, or an error with a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.bmp import read_bmp
from cvbatch.images.exif import ExifMetadata, is_transposed
from cvbatch.images.formats import MALFORMED_ERRORS, ImageFormat, identify_format
from cvbatch.images.jpeg import read_jpeg
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.pillow_reader import read_by_pillow, read_jpeg2000
from cvbatch.images.png import read_png
from cvbatch.images.reading import FormatReader, ReadOptions, ReadResult
from cvbatch.images.tiff.reader import read_tiff

_FORMAT_READERS: Final[Mapping[str, FormatReader]] = {
    "bmp": read_bmp,
    "jpeg": read_jpeg,
    "png": read_png,
    "tiff": read_tiff,
    "jpeg2000": read_jpeg2000,
}
"""Readers by format name; Pillow reads the other formats."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One decoded image."""

    image: Image.Image
    """RGB, oriented; the first frame or page."""
    width: int
    """Width of the oriented original, in pixels."""
    height: int
    """Height of the oriented original, in pixels."""
    format: str
    """Format of the content, such as `jpeg`; see `cvbatch.images.formats.FORMATS`."""
    exif: ExifMetadata | None = None
    """None unless requested."""
    warning: str | None = None
    """Damage of a picture that is returned anyway; None if it is intact."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    exif: bool = False,
    min_decode_side: int | None = None,
    icc: bool = False,
    keep_damaged: bool = False,
) -> DecodedImage:
    """Decode one image file. Thread-safe.

    Args:
        data: The whole file.
        max_pixels: Images whose header declares more pixels are refused.
        exif: Also read capture time, camera and position.
        min_decode_side: Shorter side in pixels that is large enough. A much larger JPEG is scaled down while it is
            decoded, to no less than this; for 12 megapixels, that takes a fifth of the time.
        icc: Convert colours to sRGB by the profile in the file; by default profiles are ignored.
        keep_damaged: Return a damaged JPEG as far as it can be decoded; `warning` describes the damage.

    Raises:
        ImageError: `EmptyFile`, `UnknownFormat`, `MissingExtra`, `TooManyPixels`, `TruncatedImage`, `CorruptImage`
            or `UnsupportedImage`.
    """
    if not data:
        raise ImageError("EmptyFile", "expected an image, got a file of 0 bytes")
    image_format = identify_format(data)
    with quiet_pillow:
        result = _read_by_format(image_format, data, ReadOptions(max_pixels, exif, min_decode_side, icc, keep_damaged))
    rgb, (width, height) = result.image, result.size
    if result.orientation in _TRANSPOSE_METHODS:
        rgb = rgb.transpose(_TRANSPOSE_METHODS[result.orientation])
    if is_transposed(result.orientation):
        width, height = height, width
    return DecodedImage(rgb, width, height, image_format.name, result.exif, result.warning)


_TRANSPOSE_METHODS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _read_by_format(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    with translate_malformed(image_format.name, partial(image_format.is_truncated, data, 0)):
        return _FORMAT_READERS.get(image_format.name, read_by_pillow)(image_format, data, options)


@contextmanager
def translate_malformed(format_name: str, is_truncated: Callable[[], bool] = bool) -> Iterator[None]:
    """Give an error of a library about malformed bytes its name.

    Args:
        format_name: Of the file.
        is_truncated: Whether the end of the file is missing.

    Raises:
        ImageError: `TruncatedImage` or `CorruptImage`.
    """
    try:
        yield
    except MALFORMED_ERRORS as error:
        is_cut = is_truncated() or "truncated" in str(error).lower()
        raise ImageError(
            "TruncatedImage" if is_cut else "CorruptImage",
            f"{format_name} {'stops early' if is_cut else 'cannot be decoded'}: {error or type(error).__name__}",
        ) from error
