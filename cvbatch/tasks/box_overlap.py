"""How many boxes of two lists are the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LabelledBoxes = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""Boxes (n, 4) as x_min, y_min, x_max, y_max, and their label ids (n,)."""


def count_matches(one: LabelledBoxes, other: LabelledBoxes, least_overlap: float) -> int:
    """Count boxes of the same label that overlap enough, each used once, best pairs first.

    Args:
        one: Boxes of an image.
        other: Other boxes of the same image.
        least_overlap: Intersection over union from which two are the same.
    """
    if not len(one[0]) or not len(other[0]):
        return 0
    overlaps = _pairwise_iou(one[0], other[0]) * (one[1][:, None] == other[1][None])
    count = 0
    while (best := np.unravel_index(int(overlaps.argmax()), overlaps.shape)) and overlaps[best] >= least_overlap:
        overlaps[best[0], :] = overlaps[:, best[1]] = 0
        count += 1
    return count


def _pairwise_iou(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair: float64, (n, m)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    overlaps: npt.NDArray[np.float64] = inside / (areas[0][:, None] + areas[1][None] - inside)
    return overlaps
