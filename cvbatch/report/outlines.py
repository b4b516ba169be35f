"""Outlines of masks with few points, for a picture that is much smaller than the image."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.export.polygons import Polygon, mask_to_polygons
from cvbatch.tasks.masks import Mask, decode_mask

_SIDE: Final = 200
"""Longer side to which masks are scaled before they are traced, in pixels."""
_TOLERANCE: Final = 0.75
"""Most distance between an outline and the traced one, in pixels of that size."""
_PARTS: Final = 6
_POINTS: Final = 80
_DIGITS: Final = 3
_SMALLEST_SHARE: Final = 2e-4
"""Smaller parts of a mask are left out, but for the largest one."""

Points = npt.NDArray[np.float64]


def trace_outline(counts: bytes, width: int, height: int) -> list[list[float]]:
    """Trace a mask of the predictions.

    Args:
        counts: The mask, as COCO RLE.
        width: Of the upright image, in pixels.
        height: Of the upright image, in pixels.

    Returns:
        At most six polygons, the largest first, each as x, y, x, y … in shares of the width and the height.
    """
    mask = _shrink_mask(decode_mask(counts, height, width))
    polygons = sorted(mask_to_polygons(mask), key=_area_of, reverse=True)[:_PARTS]
    large = [polygon for polygon in polygons if _area_of(polygon) >= _SMALLEST_SHARE * mask.size] or polygons[:1]
    size = np.array([mask.shape[1], mask.shape[0]], np.float64)
    outlines = [np.round(simplify_ring(polygon.astype(np.float64)) / size, _DIGITS) for polygon in large]
    return [outline.ravel().tolist() for outline in outlines]


def simplify_ring(points: Points, tolerance: float = _TOLERANCE, most_points: int = _POINTS) -> Points:
    """Leave out points of a closed line that lie near the line between others (Douglas and Peucker 1973).

    Args:
        points: (n, 2)
        tolerance: Most distance of a point that is left out; doubled until `most_points` are enough.
        most_points: Most points of the result.
    """
    while True:
        far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
        kept = np.zeros(len(points) + 1, np.bool_)
        kept[[0, far, len(points)]] = True
        closed = np.concatenate([points, points[:1]])
        spans = [(0, far), (far, len(points))]
        while spans:
            low, high = spans.pop()
            if high - low < 2:
                continue
            distances = _distances_from_line(closed[low + 1 : high], closed[low], closed[high])
            farthest = int(distances.argmax())
            if distances[farthest] > tolerance:
                middle = low + 1 + farthest
                kept[middle] = True
                spans += [(low, middle), (middle, high)]
        if kept[:-1].sum() <= most_points:
            return points[kept[:-1]]
        tolerance *= 2


def _shrink_mask(mask: Mask) -> Mask:
    scale = _SIDE / max(mask.shape)
    if scale >= 1:
        return mask
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    shrunk: Mask = np.asarray(small) >= 128
    return shrunk


def _area_of(polygon: Polygon) -> float:
    """By the shoelace formula, in pixels."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _distances_from_line(points: Points, start: Points, end: Points) -> Points:
    """Distances (n,) of points from the straight line between two others; from the point if they are the same."""
    along, offsets = end - start, points - start
    length = float(np.hypot(*along))
    if not length:
        distances: Points = np.hypot(offsets[:, 0], offsets[:, 1])
        return distances
    across: Points = np.abs(offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / length
    return across
