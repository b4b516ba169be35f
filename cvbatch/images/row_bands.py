"""Windows of files whose rows can only be read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.exif import ExifMetadata
from cvbatch.images.tiles import Window

BAND_PIXELS: Final = 1 << 23
"""Pixels of one band: 24 MB in RGB."""


class RowBands:
    """`StoredPixels` of a file that is read in bands of rows; it keeps the rows from the last window on.

    Args:
        size: (width, height) as stored, in pixels.
        orientation: As in Exif.
        exif: Of the file.
        open_bands: Returns an iterator over bands, uint8 RGB (rows, width, 3), from the first row on.
    """

    def __init__(
        self,
        size: tuple[int, int],
        orientation: int,
        exif: ExifMetadata | None,
        open_bands: Callable[[], Iterator[RgbArray]],
    ) -> None:
        self.size, self.orientation, self.exif, self._open_bands = size, orientation, exif, open_bands
        self._restart()

    def _restart(self) -> None:
        self._bands, self._kept, self._first_row = self._open_bands(), list[RgbArray](), 0

    def read_stored(self, window: Window) -> RgbArray:
        """See `StoredPixels.read_stored`; a window above the last one means that the file is read anew."""
        if window.top < self._first_row:
            self._restart()
        while self._kept and self._first_row + len(self._kept[0]) <= window.top:
            self._first_row += len(self._kept.pop(0))
        end = self._first_row + sum(map(len, self._kept))
        while end < window.top + window.height:
            band = next(self._bands, None)
            if band is None:
                raise ImageError("TruncatedImage", f"the picture stops early: it has {end} of {self.size[1]} rows")
            end += len(band)
            if end <= window.top:
                self._first_row = end
            else:
                self._kept.append(band)
        return self._cut(window)

    def _cut(self, window: Window) -> RgbArray:
        columns, parts, row = slice(window.left, window.left + window.width), list[RgbArray](), self._first_row
        for band in self._kept:
            part = band[max(0, window.top - row) : max(0, window.top + window.height - row), columns]
            if len(part):
                parts.append(part)
            row += len(band)
        return np.concatenate(parts)


def rows_of_band(width: int) -> int:
    """Return how many rows a band of a picture has."""
    return max(16, BAND_PIXELS // width // 16 * 16)
