"""Rows of jobs with tiles: cut in the decode stage, or, if a picture has too many pixels, while it is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cvbatch.images.arrow_pixels import RgbArray
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.images.exif import ExifMetadata
from cvbatch.images.file_view import FileView
from cvbatch.images.preprocess import View, apply_view
from cvbatch.images.tile_pixels import LazyTiles, TilePixels, count_tile_bytes
from cvbatch.images.windows import WindowReader, open_windows, windows_of_decoded


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What the columns of a row say about its picture."""

    width: int
    height: int
    format: str
    exif: ExifMetadata | None
    warning: str | None


class TiledPicture:
    """One opened picture, of which at least one view cuts tiles.

    Args:
        reader: Of the picture.
        views: Of the job.
        whole: The picture in memory; None if all views cut tiles.
        max_pixels: Most pixels of a picture that may be in memory as a whole.
    """

    def __init__(
        self, reader: WindowReader, views: tuple[View, ...], whole: Image.Image | None, max_pixels: int
    ) -> None:
        self._reader, self._views, self._whole, self._max_pixels = reader, views, whole, max_pixels
        self.facts = PictureFacts(reader.width, reader.height, reader.format, reader.exif, reader.warning)

    @property
    def tile_bytes(self) -> int:
        """Bytes of all tiles in all views."""
        size = (self._reader.width, self._reader.height)
        return sum(count_tile_bytes(view, size) for view in self._views if view.tiles is not None)

    def read_views(self) -> tuple[RgbArray | list[RgbArray], ...]:
        """Return, for each view, its pixels, or those of its tiles in the order of `cut_windows`."""
        return tuple(self._whole_pixels(view) if view.tiles is None else self._read_tiles(view) for view in self._views)

    def lazy_views(self) -> Mapping[View, TilePixels | RgbArray]:
        """Return the same, with tiles that are read when they are iterated."""
        return {
            view: self._whole_pixels(view) if view.tiles is None else self._lazy_tiles(view) for view in self._views
        }

    def _whole_pixels(self, view: View) -> RgbArray:
        assert self._whole is not None, "pictures of views without tiles are decoded as a whole"
        return apply_view(view, self._whole)

    def _lazy_tiles(self, view: View) -> TilePixels:
        lazy = LazyTiles(self._reader, view, self._max_pixels)
        return TilePixels(lazy.windows, lazy)

    def _read_tiles(self, view: View) -> list[RgbArray]:
        lazy = LazyTiles(self._reader, view, self._max_pixels)
        tiles: list[RgbArray] = [np.empty((0, 0, 3), np.uint8)] * len(lazy.windows)
        for position, pixels in lazy:
            tiles[position] = pixels
        return tiles


def open_tiled_picture(
    data: bytes | FileView, views: tuple[View, ...], *, max_pixels: int, max_tiled_pixels: int, **options: Any
) -> TiledPicture:
    """Open a picture of a job in which at least one view cuts tiles.

    Args:
        data: The whole file.
        views: Of the job.
        max_pixels: Most pixels of a picture that may be in memory as a whole.
        max_tiled_pixels: Most pixels of a picture that is read in parts.
        options: `exif`, `icc` and `keep_damaged` of `decode`.

    Raises:
        ImageError: As `decode`.
    """
    if all(view.tiles is not None for view in views):
        reader = open_windows(data, max_pixels=max_tiled_pixels, max_whole_pixels=max_pixels, **options)
        return TiledPicture(reader, views, None, max_pixels)
    decoded: DecodedImage = decode(data[:], max_pixels=max_pixels, **options)
    return TiledPicture(windows_of_decoded(decoded), views, decoded.image, max_pixels)
