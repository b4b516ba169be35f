"""The tiles of one picture as a network sees them, in memory or read as they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.decode import DecodedImage
from cvbatch.images.letterbox import Size
from cvbatch.images.preprocess import View, apply_view, compute_min_decode_side, compute_output_size
from cvbatch.images.tiles import Tiles, Window, cut_windows, whole_window
from cvbatch.images.windows import WindowReader, windows_of_decoded

_BAND_PIXELS = 1 << 24


@dataclass(frozen=True, slots=True)
class TilePixels:
    """The tiles of one picture in one view."""

    windows: Sequence[Window]
    """See `cut_windows`."""
    pixels: Iterable[tuple[int, RgbArray]]
    """Position in `windows`, and uint8 RGB, (height, width, 3), of the view; every tile once, in any order."""

    def __iter__(self) -> Iterator[tuple[int, RgbArray]]:
        return iter(self.pixels)


def tiles_of_view(view: View) -> Tiles:
    """Return the tiles of a view that has some."""
    assert view.tiles is not None, "only views with tiles are cut"
    return view.tiles


def count_tile_bytes(view: View, size: Size) -> int:
    """Count the bytes of all tiles of a picture in a view.

    Args:
        view: With tiles.
        size: (width, height) of the oriented picture.
    """
    windows = cut_windows(tiles_of_view(view), size)
    return sum(3 * math.prod(compute_output_size(view, window.size)) for window in windows)


class LazyTiles:
    """Reads the tiles of a picture anew each time that they are iterated, in the order of the file.

    Args:
        reader: Of the picture.
        view: With tiles.
        max_pixels: Most pixels of a picture that may be in memory as a whole.
    """

    def __init__(self, reader: WindowReader, view: View, max_pixels: int) -> None:
        self._reader, self._view, self._max_pixels = reader, view, max_pixels
        self.windows = cut_windows(tiles_of_view(view), (reader.width, reader.height))

    def __iter__(self) -> Iterator[tuple[int, RgbArray]]:
        size = (self._reader.width, self._reader.height)
        is_cut = len(self.windows) > 1
        positions = {window: position for position, window in enumerate(self.windows)}
        for window in self._reader.in_reading_order(positions):
            if window == whole_window(size) and is_cut:
                continue
            yield positions[window], apply_view(self._view, Image.fromarray(self._reader.read(*window)))
        if is_cut and (position := positions.get(whole_window(size))) is not None:
            image = read_reduced(self._reader, self._view, self._max_pixels)
            yield position, apply_view(self._view, image, size)


def pixels_in_view(view: View, image: Image.Image) -> RgbArray | TilePixels:
    """Return the pixels of an image in a view, or those of its tiles.

    Args:
        view: Of the network.
        image: RGB, upright.
    """
    if view.tiles is None:
        return apply_view(view, image)
    reader = windows_of_decoded(DecodedImage(image, image.width, image.height, ""))
    lazy = LazyTiles(reader, view, image.width * image.height)
    return TilePixels(lazy.windows, lazy)


def read_reduced(reader: WindowReader, view: View, max_pixels: int) -> Image.Image:
    """Read a whole picture, made smaller by a whole number where a view resizes it anyway.

    Args:
        reader: Of the picture.
        view: How the picture will be resized.
        max_pixels: Most pixels of a picture that is read at its full size.

    Returns:
        RGB; each pixel is the average of a square of the picture's.

    Raises:
        ImageError: `TooManyPixels`, if the view does not resize and the picture is larger than that.
    """
    side = compute_min_decode_side([replace(view, tiles=None)])
    factor = 1 if side is None else max(1, min(reader.width, reader.height) // side)
    if factor == 1 and reader.width * reader.height <= max_pixels:
        return Image.fromarray(reader.read(0, 0, reader.height, reader.width))
    if factor == 1:
        raise ImageError(
            "TooManyPixels",
            f"{reader.width} × {reader.height} pixels are more than {max_pixels}, and tiles.whole needs all of them, "
            "as this model does not resize: leave tiles.whole out, or raise source.max_pixels",
        )
    rows = max(factor, _BAND_PIXELS // reader.width // factor * factor)
    bands = [
        np.asarray(Image.fromarray(reader.read(top, 0, min(rows, reader.height - top), reader.width)).reduce(factor))
        for top in range(0, reader.height, rows)
    ]
    return Image.fromarray(np.concatenate(bands))
