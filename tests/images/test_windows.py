"""Windows of a picture are the same pixels as those of the picture decoded as a whole."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageOps

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.decode import decode
from cvbatch.images.windows import Window, WindowReader, open_windows

SIZE = (31, 22)
PIXELS = np.random.default_rng(3).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
WINDOWS = [Window(0, 0, 22, 22), Window(3, 1, 4, 9), Window(20, 19, 2, 3), Window(21, 0, 1, 1)]


@dataclass
class Stored:
    orientation: int
    size = SIZE
    exif = None

    def read_stored(self, window: Window) -> RgbArray:
        top, left, height, width = window
        return PIXELS[top : top + height, left : left + width]


def encoded(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_turned_picture_are_parts_of_the_upright_one(orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    image = Image.fromarray(PIXELS)
    image.info["exif"] = tags.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image))
    reader = WindowReader(Stored(orientation), "tiff")
    assert (reader.height, reader.width) == upright.shape[:2]
    for top, left, height, width in WINDOWS:
        if top + height <= reader.height and left + width <= reader.width:
            window = reader.read(top, left, height, width)
            assert window.flags.c_contiguous
            np.testing.assert_array_equal(window, upright[top : top + height, left : left + width])


@pytest.mark.parametrize(("orientation", "first"), [(1, 0), (3, 3), (6, 1), (8, 2)])
def test_reading_order_follows_the_stored_rows(orientation: int, first: int) -> None:
    reader = WindowReader(Stored(orientation), "tiff")
    corners = [Window(row, column, 1, 1) for row in (0, reader.height - 1) for column in (0, reader.width - 1)]
    assert reader.in_reading_order(reversed(corners))[0] == corners[first]


def test_other_formats_are_decoded_as_a_whole() -> None:
    data = encoded(format="WEBP", lossless=True)
    reader = open_windows(data, max_pixels=10**6)
    assert (reader.format, reader.is_whole_in_memory) == ("webp", True)
    whole = np.asarray(decode(data, max_pixels=10**6).image)
    np.testing.assert_array_equal(reader.read(5, 6, 7, 8), whole[5:12, 6:14])


@pytest.mark.parametrize("window", [(0, 0, 23, 1), (0, 30, 1, 2), (-1, 0, 2, 2), (0, 0, 0, 1)])
def test_windows_outside_are_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected a window inside of 22 × 31 pixels, got top"):
        WindowReader(Stored(1), "tiff").read(*window)


def test_errors_are_those_of_decoding() -> None:
    with pytest.raises(ImageError, match="more than 100") as caught:
        open_windows(encoded(format="WEBP"), max_pixels=100)
    assert caught.value.kind == "TooManyPixels"
    with pytest.raises(ImageError, match="0 bytes"):
        open_windows(b"", max_pixels=100)
