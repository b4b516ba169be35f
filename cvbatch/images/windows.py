"""Read parts of a picture in full resolution, without all of its pixels in memory where its format allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.decode import DecodedImage, decode, translate_malformed
from cvbatch.images.exif import ExifMetadata, is_transposed
from cvbatch.images.file_view import FileView
from cvbatch.images.formats import JPEG_FORMAT, TIFF_SIGNATURES, ImageFormat, identify_format
from cvbatch.images.jpeg_windows import has_libvips, open_jpeg_windows
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.png_windows import open_png_windows
from cvbatch.images.reading import ReadOptions
from cvbatch.images.tiff.windows import open_tiff_windows
from cvbatch.images.tiles import Window as Window

_TIFF: Final = "tiff"
_HEADER_BYTES: Final = 16


class StoredPixels(Protocol):
    """Pixels as a file stores them, before the picture is turned upright."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    @property
    def orientation(self) -> int:
        """1 (upright) to 8, as in Exif."""
        ...

    @property
    def exif(self) -> ExifMetadata | None:
        """None unless requested."""
        ...

    def read_stored(self, window: Window) -> RgbArray:
        """Read one window, which lies inside the picture; fastest from top to bottom.

        Returns:
            uint8 RGB, (height, width, 3); colours as `cvbatch.images.decode.decode` has them.

        Raises:
            ImageError: As `cvbatch.images.decode.decode`; or any of `cvbatch.images.formats.MALFORMED_ERRORS`.
        """
        ...


WindowOpener: TypeAlias = Callable[[ImageFormat, bytes, ReadOptions], StoredPixels | None]
"""Opens a file of one format; None if files of this kind can only be decoded as a whole. It checks the number of pixels
(`cvbatch.images.reading.check_pixel_count`)."""
_WINDOW_OPENERS: Final[Mapping[str, WindowOpener]] = {
    "jpeg": open_jpeg_windows,
    "png": open_png_windows,
    _TIFF: open_tiff_windows,
}
"""Openers by format name; pictures of other formats are decoded as a whole."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """How stored pixels become upright: first rows and columns are reversed, then they change places."""

    reversed_rows: bool = False
    reversed_columns: bool = False
    transposed: bool = False


_TURNS: Final[Mapping[int, _Turn]] = {
    1: _Turn(),
    2: _Turn(reversed_columns=True),
    3: _Turn(reversed_rows=True, reversed_columns=True),
    4: _Turn(reversed_rows=True),
    5: _Turn(transposed=True),
    6: _Turn(reversed_rows=True, transposed=True),
    7: _Turn(reversed_rows=True, reversed_columns=True, transposed=True),
    8: _Turn(reversed_columns=True, transposed=True),
}
"""By orientation of Exif."""


class WindowReader:
    """Reads windows of one upright picture. Not thread-safe.

    Args:
        pixels: Of the picture, as stored.
        image_format: Name of the format, such as `tiff`.
        warning: Damage of a picture that is read anyway.
    """

    def __init__(self, pixels: StoredPixels, image_format: str, warning: str | None = None) -> None:
        self._pixels, self._turn = pixels, _TURNS[pixels.orientation]
        self.format, self.warning, self.exif = image_format, warning, pixels.exif
        width, height = pixels.size
        self.width, self.height = (height, width) if is_transposed(pixels.orientation) else (width, height)

    @property
    def is_whole_in_memory(self) -> bool:
        """Whether all pixels are in memory."""
        return isinstance(self._pixels, WholePicture)

    def in_reading_order(self, windows: Iterable[Window]) -> list[Window]:
        """Sort windows of the upright picture so that a file that stores its rows one after another is read once."""
        return sorted(windows, key=lambda window: self._to_stored(window)[:2])

    def read(self, top: int, left: int, height: int, width: int) -> RgbArray:
        """Read one window of the upright picture.

        Args:
            top: First row.
            left: First column.
            height: Number of rows.
            width: Number of columns.

        Returns:
            uint8 RGB, (height, width, 3), C-contiguous.

        Raises:
            ImageError: As `cvbatch.images.decode.decode`.
            ValueError: If the window is empty, or not inside the picture.
        """
        if not (0 <= top < top + height <= self.height and 0 <= left < left + width <= self.width):
            raise ValueError(
                f"expected a window inside of {self.height} × {self.width} pixels, got top {top}, left {left}, "
                f"height {height}, width {width}"
            )
        with quiet_pillow, translate_malformed(self.format):
            pixels = self._pixels.read_stored(self._to_stored(Window(top, left, height, width)))
        row_step, column_step = -1 if self._turn.reversed_rows else 1, -1 if self._turn.reversed_columns else 1
        pixels = pixels[::row_step, ::column_step]
        return np.ascontiguousarray(pixels.transpose(1, 0, 2) if self._turn.transposed else pixels)

    def _to_stored(self, window: Window) -> Window:
        top, left, height, width = window
        if self._turn.transposed:
            top, left, height, width = left, top, width, height
        stored_width, stored_height = self._pixels.size
        if self._turn.reversed_rows:
            top = stored_height - top - height
        if self._turn.reversed_columns:
            left = stored_width - left - width
        return Window(top, left, height, width)


class WholePicture:
    """`StoredPixels` of a picture that is decoded and upright.

    Args:
        decoded: The picture.
    """

    orientation = 1

    def __init__(self, decoded: DecodedImage) -> None:
        self._image: Image.Image = decoded.image
        self.size, self.exif = decoded.image.size, decoded.exif

    def read_stored(self, window: Window) -> RgbArray:
        """See `StoredPixels.read_stored`."""
        top, left, height, width = window
        return np.asarray(self._image.crop((left, top, left + width, top + height)))


def open_windows(
    data: bytes | FileView,
    *,
    max_pixels: int,
    max_whole_pixels: int | None = None,
    exif: bool = False,
    icc: bool = False,
    keep_damaged: bool = False,
) -> WindowReader:
    """Open a picture to read parts of it.

    Args:
        data: The whole file. Of a `FileView` of a TIFF, parts are copied when they are needed.
        max_pixels: Pictures whose header declares more pixels are refused.
        max_whole_pixels: The same for pictures that can only be decoded as a whole; by default `max_pixels`.
        exif: Also read capture time, camera and position.
        icc: Convert colours to sRGB by the profile in the file.
        keep_damaged: Accept a damaged picture as far as it can be decoded; it is then decoded as a whole.

    Raises:
        ImageError: As `cvbatch.images.decode.decode`.
    """
    options = ReadOptions(max_pixels, exif, None, icc)
    if isinstance(data, FileView) and data.startswith(TIFF_SIGNATURES) and not keep_damaged:
        with quiet_pillow, translate_malformed(_TIFF):
            pixels: StoredPixels | None = open_tiff_windows(identify_format(data[:_HEADER_BYTES]), data, options)
        if pixels is not None:
            return WindowReader(pixels, _TIFF)
    data = data if isinstance(data, bytes) else data[:]
    if not data:
        raise ImageError("EmptyFile", "expected an image, got a file of 0 bytes")
    image_format = identify_format(data)
    opener = None if keep_damaged else _WINDOW_OPENERS.get(image_format.name)
    if opener is not None:
        with quiet_pillow, translate_malformed(image_format.name, partial(image_format.is_truncated, data, 0)):
            pixels = opener(image_format, data, options)
        if pixels is not None:
            return WindowReader(pixels, image_format.name)
    whole_limit = max_pixels if max_whole_pixels is None else min(max_pixels, max_whole_pixels)
    try:
        decoded = decode(data, max_pixels=whole_limit, exif=exif, icc=icc, keep_damaged=keep_damaged)
    except ImageError as error:
        if error.kind == "TooManyPixels" and image_format == JPEG_FORMAT and not has_libvips():
            raise ImageError(error.kind, f"{error}, or read JPEGs in parts: pip install 'cvbatch[tiles]'") from None
        raise
    return windows_of_decoded(decoded)


def windows_of_decoded(decoded: DecodedImage) -> WindowReader:
    """Return a reader of windows of a picture that is decoded already."""
    return WindowReader(WholePicture(decoded), decoded.format, decoded.warning)
