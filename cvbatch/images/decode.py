"""Bytes of an image file to oriented RGB pixels: all of the file, or a named error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.bmp import read_bmp
from cvbatch.images.exif import ExifFacts, sideways
from cvbatch.images.formats import MALFORMED, Format, identify
from cvbatch.images.jpeg import read_jpeg
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.pillow_reader import read_by_pillow, read_jpeg2000
from cvbatch.images.png import read_png
from cvbatch.images.reading import Picture, Reader, ReadOptions
from cvbatch.images.tiff.reader import read_tiff

_READERS: Final[Mapping[str, Reader]] = {
    "bmp": read_bmp,
    "jpeg": read_jpeg,
    "png": read_png,
    "tiff": read_tiff,
    "jpeg2000": read_jpeg2000,
}
"""By the name of the format; the others go to Pillow as they are."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image."""

    image: Image.Image
    """RGB, oriented; the first frame or page."""
    width: int
    """Of the oriented original, in pixels."""
    height: int
    """Of the oriented original, in pixels."""
    format: str
    """What the content is, such as `jpeg`; see `cvbatch.images.formats.FORMATS`."""
    exif: ExifFacts | None = None
    """None unless asked for."""
    warning: str | None = None
    """What is wrong with a picture that is given all the same; None if nothing is."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    exif: bool = False,
    enough: int | None = None,
    icc: bool = False,
    keep_damaged: bool = False,
) -> Decoded:
    """Decode one image file; several threads may do so at once.

    Args:
        data: The whole file.
        max_pixels: Images whose header promises more are not decoded.
        exif: Also read capture time, camera and position.
        enough: Shorter side in pixels that suffices. A much larger JPEG is then scaled down while it is decoded, to no
            less than that, which takes a fifth of the time for 12 megapixels.
        icc: Bring colours to sRGB by the profile that lies in the file; by default profiles are not looked at.
        keep_damaged: Take a damaged JPEG as far as it can be decoded; `warning` says what is wrong with it.

    Raises:
        ImageError: `EmptyFile`, `UnknownFormat`, `MissingExtra`, `TooManyPixels`, `TruncatedImage`, `CorruptImage`
            or `UnsupportedImage`.
    """
    if not data:
        raise ImageError("EmptyFile", "expected an image, got a file of 0 bytes")
    kind = identify(data)
    with quiet_pillow:
        picture = _read(kind, data, ReadOptions(max_pixels, exif, enough, icc, keep_damaged))
    rgb, (width, height) = picture.image, picture.size
    if picture.orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[picture.orientation])
    if sideways(picture.orientation):
        width, height = height, width
    return Decoded(rgb, width, height, kind.name, picture.exif, picture.warning)


_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _read(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    try:
        return _READERS.get(kind.name, read_by_pillow)(kind, data, options)
    except MALFORMED as error:
        cut = kind.lacks_end(data, 0) or "truncated" in str(error).lower()
        raise ImageError(
            "TruncatedImage" if cut else "CorruptImage",
            f"{kind.name} {'stops early' if cut else 'cannot be decoded'}: {error or type(error).__name__}",
        ) from error
