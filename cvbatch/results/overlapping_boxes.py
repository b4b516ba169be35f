"""Pairs of boxes that overlap, of many images at once, in memory that does not grow with all pairs there are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.integer[Any]]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Corners = npt.NDArray[np.floating[Any]]

_BLOCK_PAIRS: Final = 1 << 18
"""Pairs that are looked at together."""


def find_overlapping_pairs(
    first_keys: Keys, first_boxes: Corners, second_keys: Keys, second_boxes: Corners, min_overlap: float
) -> tuple[Ints, Ints, Floats]:
    """Find all pairs of boxes with the same key, such as one image and class, that overlap enough.

    Args:
        first_keys: (n,)
        first_boxes: (n, 4): x_min, y_min, x_max, y_max.
        second_keys: (m,)
        second_boxes: (m, 4)
        min_overlap: Smallest intersection over union.

    Returns:
        Positions of each pair on both sides, those of the first side ascending, and its overlap: (pairs,) each.
    """
    order = np.argsort(second_keys, kind="stable")
    ordered = second_keys[order]
    starts = np.searchsorted(ordered, first_keys, "left")
    counts = np.searchsorted(ordered, first_keys, "right") - starts
    ends = np.cumsum(counts)
    blocks = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    low = 0
    while low < len(first_keys):
        before = int(ends[low] - counts[low])
        high = max(low + 1, int(np.searchsorted(ends, before + _BLOCK_PAIRS, "right")))
        some = counts[low:high]
        first = np.repeat(np.arange(low, high), some)
        within = np.arange(len(first)) - np.repeat(ends[low:high] - some - before, some)
        second = order[np.repeat(starts[low:high], some) + within]
        overlaps = _overlaps(first_boxes[first].astype(np.float64), second_boxes[second].astype(np.float64))
        kept = overlaps >= min_overlap
        blocks.append((first[kept], second[kept], overlaps[kept]))
        low = high
    first, second, overlaps = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return first, second, overlaps


def _overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of aligned boxes: (n,)."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    overlaps: Floats = np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)
    return overlaps
