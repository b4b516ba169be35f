"""Which pixels an object covers: its mask, or its box, grown by a share of its size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvbatch.edits.base import FoundObject
from cvbatch.errors import ImageError
from cvbatch.images.preprocess import Size
from cvbatch.tasks.masks import Mask


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the oriented original, and which of its pixels are meant."""

    rows: slice
    columns: slice
    inside: Mask | None = None
    """(rows, columns) of the rectangle; None for all."""


def region_of(found: FoundObject, size: Size, grow: float) -> Region | None:
    """The pixels of an object.

    Args:
        found: The object.
        size: (width, height) of the oriented original.
        grow: Share of the object's width and height that is added on each side.

    Returns:
        None if the object has no pixel inside the image.

    Raises:
        ImageError: `MaskSize`: the mask is not of the size of the image.
    """
    width, height = size
    if found.mask is not None:
        if found.mask.shape != (height, width):
            raise ImageError("MaskSize", f"expected a mask of {height} × {width} pixels, got one of {found.mask.shape}")
        return _region_of_mask(found.mask, grow)
    x_min, y_min, x_max, y_max = found.box
    by_x, by_y = grow * max(0.0, x_max - x_min), grow * max(0.0, y_max - y_min)
    columns = _clip(x_min - by_x, x_max + by_x, width)
    rows = _clip(y_min - by_y, y_max + by_y, height)
    return None if rows is None or columns is None else Region(rows, columns)


def _clip(low: float, high: float, length: int) -> slice | None:
    """All pixels that an interval touches; None if it touches none of the image."""
    start, stop = max(0, math.floor(low)), min(length, math.ceil(high))
    return slice(start, stop) if start < stop else None


def _region_of_mask(mask: Mask, grow: float) -> Region | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    margin_y, margin_x = (math.ceil(grow * length) for length in (bottom - top, right - left))
    area_rows = slice(max(0, top - margin_y), min(mask.shape[0], bottom + margin_y))
    area_columns = slice(max(0, left - margin_x), min(mask.shape[1], right + margin_x))
    area = mask[area_rows, area_columns]
    return Region(area_rows, area_columns, _widened(_widened(area, margin_y).T, margin_x).T)


def _widened(mask: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    """Whether a pixel or one of `margin` rows above or below it is inside."""
    if not margin:
        return mask
    sums = np.cumsum(np.pad(mask.astype(np.int32), ((margin + 1, margin), (0, 0))), axis=0)
    return np.asarray(sums[2 * margin + 1 :] - sums[: -2 * margin - 1] > 0)
