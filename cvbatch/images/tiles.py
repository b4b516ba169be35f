"""Where tiles are cut from a picture, so that a network sees small objects in full resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np

from cvbatch.images.letterbox import Size

MAX_TILED_PIXELS: Final = 2_000_000_000
"""Most pixels of a picture that is never in memory as a whole."""


class Window(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Squares that a picture is cut into; each goes through the model as an image of its own."""

    size: int = 1024
    """Side in pixels of the picture."""
    overlap: float = 0.2
    """Least share of a side that two neighbours have in common."""
    whole: bool = False
    """Whether the whole picture goes through the model, too."""
    merge: Literal["nms", "wbf"] = "nms"
    """How boxes of one object become one: the best stays, or all are averaged by their scores."""


def cut_windows(tiles: Tiles, size: Size) -> list[Window]:
    """Return the tiles of a picture, row by row, and last the whole picture if it is asked for.

    A picture that is not larger than a tile is one window. All tiles of a larger picture have full length along each
    side that is longer than a tile, and are spread evenly, so neighbours overlap by at least the least share.

    Args:
        tiles: How to cut.
        size: (width, height) of the oriented picture.
    """
    lefts, tops = (tile_starts(tiles, length) for length in size)
    width, height = (min(length, tiles.size) for length in size)
    windows = [Window(top, left, height, width) for top in tops for left in lefts]
    return [*windows, whole_window(size)] if tiles.whole and len(windows) > 1 else windows


def whole_window(size: Size) -> Window:
    """Return the window of a whole picture of (width, height)."""
    return Window(0, 0, size[1], size[0])


def tile_starts(tiles: Tiles, length: int) -> list[int]:
    """Return the first pixel of each tile along a side of a picture.

    Args:
        tiles: How to cut.
        length: Of the side, in pixels.
    """
    if length <= tiles.size:
        return [0]
    step = max(1, math.floor(tiles.size * (1 - tiles.overlap)))
    count = math.ceil((length - tiles.size) / step) + 1
    starts: list[int] = np.linspace(0, length - tiles.size, count).round().astype(int).tolist()
    return starts


def core_bounds(tiles: Tiles, length: int) -> list[int]:
    """Return where the part ends, along a side, that each tile decides: in the middle of each overlap.

    Args:
        tiles: How to cut.
        length: Of the side, in pixels.

    Returns:
        One number more than there are tiles, from 0 to `length`.
    """
    starts = tile_starts(tiles, length)
    middles = [(start + tiles.size + following) // 2 for start, following in pairwise(starts)]
    return [0, *middles, length]
