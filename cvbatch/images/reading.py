"""Interface of the format readers: their options, their result, and the pixel limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.exif import ExifMetadata
from cvbatch.images.formats import ImageFormat

_RAISE_LIMIT_HINT: Final = "raise source.max_pixels to accept it"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading an image file; see `cvbatch.images.decode.decode`."""

    max_pixels: int
    exif: bool = False
    min_decode_side: int | None = None
    icc: bool = False
    """Whether to convert colours to sRGB by the profile in the file."""
    keep_damaged: bool = False


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Picture and metadata that a reader returns for one file."""

    image: Image.Image
    """RGB as stored: not yet rotated by `orientation`."""
    size: tuple[int, int]
    """(width, height) in pixels that the file declares, before rotation and scaling."""
    orientation: int = 1
    """1 (upright) to 8, as in Exif."""
    exif: ExifMetadata | None = None
    """None unless requested."""
    warning: str | None = None
    """Damage of a picture that is returned anyway; None if it is intact."""


FormatReader: TypeAlias = Callable[[ImageFormat, bytes, ReadOptions], ReadResult]
"""Reads the first picture of a file. Raises `ImageError` or any of `cvbatch.images.formats.MALFORMED_ERRORS`."""


def check_pixel_count(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture whose header declares too many pixels, before anything is decoded.

    Raises:
        ImageError: `TooManyPixels`.
    """
    if width * height > max_pixels:
        declared = f"{width} x {height} = {width * height} pixels"
        raise ImageError(
            "TooManyPixels", f"the header declares {declared}, more than {max_pixels}; {_RAISE_LIMIT_HINT}"
        )


def too_many_pixels_error(max_pixels: int) -> ImageError:
    """Return the same error for a library that does not report how many pixels there are."""
    return ImageError("TooManyPixels", f"the header declares more than {max_pixels} pixels; {_RAISE_LIMIT_HINT}")
