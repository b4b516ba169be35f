"""Count the boxes that two lists have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LabelledBoxes = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""Boxes (n, 4) as x_min, y_min, x_max, y_max, and their label ids (n,)."""


def count_matches(first: LabelledBoxes, second: LabelledBoxes, min_overlap: float) -> int:
    """Count pairs of boxes with the same label that overlap enough; best pairs first, each box is used once.

    Args:
        first: Boxes of an image.
        second: Other boxes of the same image.
        min_overlap: Smallest intersection over union of two boxes that count as the same.
    """
    if not len(first[0]) or not len(second[0]):
        return 0
    overlaps = pairwise_iou(first[0], second[0]) * (first[1][:, None] == second[1][None])
    count = 0
    while (best := np.unravel_index(int(overlaps.argmax()), overlaps.shape)) and overlaps[best] >= min_overlap:
        overlaps[best[0], :] = overlaps[:, best[1]] = 0
        count += 1
    return count


def pairwise_intersections(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the area that each pair of boxes (n, 4) and (m, 4) has in common: float64, (n, m)."""
    upper_left = np.maximum(first[:, None, :2], second[None, :, :2])
    lower_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    areas: npt.NDArray[np.float64] = np.prod(np.clip(lower_right - upper_left, 0, None), axis=2)
    return areas


def pairwise_iou(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes (n, 4) and (m, 4): float64, (n, m)."""
    intersections = pairwise_intersections(first, second)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    overlaps: npt.NDArray[np.float64] = intersections / (areas[0][:, None] + areas[1][None] - intersections)
    return overlaps
