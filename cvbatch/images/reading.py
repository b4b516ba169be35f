"""What every reader of a format is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.exif import ExifMetadata
from cvbatch.images.formats import ImageFormat

_RAISE_LIMIT_HINT: Final = "raise source.max_pixels to take it"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How an image file is to be read; see `cvbatch.images.decode.decode`."""

    max_pixels: int
    exif: bool = False
    min_decode_side: int | None = None
    icc: bool = False
    """Bring colours to sRGB by the profile that lies in the file."""
    keep_damaged: bool = False


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a reader makes of one file."""

    image: Image.Image
    """RGB, as it is stored: not yet turned by `orientation`."""
    size: tuple[int, int]
    """(width, height) that the file tells, before turning and before any scaling, in pixels."""
    orientation: int = 1
    """How it has to be turned, 1 (not at all) to 8, as Exif counts."""
    exif: ExifMetadata | None = None
    """None unless asked for."""
    warning: str | None = None
    """What is wrong with a picture that can be used all the same; None if nothing is."""


FormatReader: TypeAlias = Callable[[ImageFormat, bytes, ReadOptions], ReadResult]
"""Reads the first picture of a file. Raises `ImageError`, or whatever `MALFORMED` lists."""


def check_pixel_count(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture whose header promises too much, before anything is decoded.

    Raises:
        ImageError: `TooManyPixels`.
    """
    if width * height > max_pixels:
        promise = f"{width} x {height} = {width * height} pixels"
        raise ImageError("TooManyPixels", f"the header promises {promise}, more than {max_pixels}; {_RAISE_LIMIT_HINT}")


def too_many_pixels_error(max_pixels: int) -> ImageError:
    """The same for a library that does not say how many there are."""
    return ImageError("TooManyPixels", f"the header promises more than {max_pixels} pixels; {_RAISE_LIMIT_HINT}")
