"""Masks in the forms of several formats: runs along the rows, and one polygon for all parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cvbatch.export.base import ImageBatch
from cvbatch.export.polygons import Polygon
from cvbatch.tasks.masks import Mask, decode_mask


def decode_masks(batch: ImageBatch) -> Iterator[Mask]:
    """The masks of a batch one after the other, each (height, width) of its image."""
    sizes = batch.sizes[batch.image_indices].tolist()
    for mask, (width, height) in zip(batch.elements["mask"], sizes, strict=True):
        yield decode_mask(mask.as_py(), height, width)


def row_runs(mask: Mask) -> npt.NDArray[np.int64]:
    """Lengths of the runs of a mask along its rows, from the top; the first run is outside and may be empty."""
    pixels = mask.ravel(order="C")
    bounds = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts_inside = [0] if len(pixels) and pixels[0] else []
    return np.diff(np.concatenate([[0], starts_inside, bounds, [len(pixels)]])).astype(np.int64)


def join_polygons(polygons: Sequence[Polygon]) -> Polygon:
    """One polygon that covers what several do, for formats with one polygon per object.

    It goes from the first corner of the first polygon to each other one and back, over cuts without width along a
    column and a row, which no rule for filling sees.
    """
    points = [*polygons[0].tolist(), polygons[0][0].tolist()]
    start_x, start_y = points[0]
    for polygon in polygons[1:]:
        ring = polygon.tolist()
        bend = [start_x, ring[0][1]]
        points += [bend, *ring, ring[0], bend, [start_x, start_y]]
    return np.array(points if len(polygons) > 1 else points[:-1], np.int64)
