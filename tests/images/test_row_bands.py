"""Files are read from top to bottom once, as long as windows go down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.row_bands import RowBands, rows_of_band
from cvbatch.images.tiles import Window

PIXELS = np.random.default_rng(1).integers(0, 255, (23, 7, 3), np.uint8)


class Bands:
    def __init__(self, rows: int = 23) -> None:
        self.rows, self.read_bands, self.opened = rows, 0, 0

    def __call__(self) -> Iterator[RgbArray]:
        self.opened += 1
        for top in range(0, self.rows, 5):
            self.read_bands += 1
            yield PIXELS[top : min(top + 5, self.rows)]


@pytest.mark.parametrize("top", range(0, 20, 3))
def test_windows_are_parts_of_the_bands(top: int) -> None:
    rows = RowBands((7, 23), 1, None, Bands())
    for start in (0, top, top):
        np.testing.assert_array_equal(rows.read_stored(Window(start, 2, 4, 3)), PIXELS[start : start + 4, 2:5])


def test_going_down_reads_once_and_going_up_reads_anew() -> None:
    bands = Bands()
    rows = RowBands((7, 23), 1, None, bands)
    for top in (0, 2, 2, 9, 12, 19):
        rows.read_stored(Window(top, 0, 4, 7))
    assert (bands.opened, bands.read_bands) == (1, 5)
    np.testing.assert_array_equal(rows.read_stored(Window(0, 0, 1, 7)), PIXELS[:1])
    assert (bands.opened, bands.read_bands) == (2, 6)


def test_missing_rows_are_an_error() -> None:
    rows = RowBands((7, 23), 1, None, Bands(rows=12))
    with pytest.raises(ImageError, match="it has 12 of 23 rows"):
        rows.read_stored(Window(10, 0, 5, 7))


def test_bands_have_some_rows() -> None:
    assert [rows_of_band(width) for width in (1, 1024, 20_000, 10**6)] == [8388608, 8192, 416, 16]
