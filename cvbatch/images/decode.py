"""Bytes of an image file to oriented RGB pixels: all of the file, or a named error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
"""By the name of the format; the others go to Pillow as they are."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One decoded image."""

    image: Image.Image
    """RGB, oriented; the first frame or page."""
    width: int
    """Of the oriented original, in pixels."""
    height: int
    """Of the oriented original, in pixels."""
    format: str
    """What the content is, such as `jpeg`; see `cvbatch.images.formats.FORMATS`."""
    exif: ExifMetadata | None = None
    """None unless asked for."""
    warning: str | None = None
    """What is wrong with a picture that is given all the same; None if nothing is."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    exif: bool = False,
    min_decode_side: int | None = None,
    icc: bool = False,
    keep_damaged: bool = False,
) -> DecodedImage:
    """Decode one image file; several threads may do so at once.

    Args:
        data: The whole file.
        max_pixels: Images whose header promises more are not decoded.
        exif: Also read capture time, camera and position.
        min_decode_side: Shorter side in pixels that suffices. A much larger JPEG is scaled down while it is decoded, to
            no less than that, which takes a fifth of the time for 12 megapixels.
        icc: Bring colours to sRGB by the profile that lies in the file; by default profiles are not looked at.
        keep_damaged: Take a damaged JPEG as far as it can be decoded; `warning` says what is wrong with it.

    Raises:
        ImageError: `EmptyFile`, `UnknownFormat`, `MissingExtra`, `TooManyPixels`, `TruncatedImage`, `CorruptImage`
            or `UnsupportedImage`.
    """
    if not data:
        raise ImageError("EmptyFile", "expected an image, got a file of 0 bytes")
    kind = identify_format(data)
    with quiet_pillow:
        picture = _read_by_format(kind, data, ReadOptions(max_pixels, exif, min_decode_side, icc, keep_damaged))
    rgb, (width, height) = picture.image, picture.size
    if picture.orientation in _TRANSPOSE_METHODS:
        rgb = rgb.transpose(_TRANSPOSE_METHODS[picture.orientation])
    if is_transposed(picture.orientation):
        width, height = height, width
    return DecodedImage(rgb, width, height, kind.name, picture.exif, picture.warning)


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
    try:
        return _FORMAT_READERS.get(image_format.name, read_by_pillow)(image_format, data, options)
    except MALFORMED_ERRORS as error:
        cut = image_format.is_truncated(data, 0) or "truncated" in str(error).lower()
        raise ImageError(
            "TruncatedImage" if cut else "CorruptImage",
            f"{image_format.name} {'stops early' if cut else 'cannot be decoded'}: {error or type(error).__name__}",
        ) from error
