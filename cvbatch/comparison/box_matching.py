"""Matches boxes of two runs, of many images at once: the best pairs first, each box once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def match_boxes(
    first_keys: Ints, first_boxes: Floats, second_keys: Ints, second_boxes: Floats, min_overlap: float
) -> tuple[Ints, Ints]:
    """Match boxes with the same key, such as one image and class, that overlap enough.

    Args:
        first_keys: (n,)
        first_boxes: (n, 4): x_min, y_min, x_max, y_max.
        second_keys: (m,)
        second_boxes: (m, 4)
        min_overlap: Smallest intersection over union of a match.

    Returns:
        Positions of the matched boxes, (matches,) of each side.
    """
    first, second = _pairs_of_equal_keys(first_keys, second_keys)
    overlaps = _overlaps(first_boxes[first], second_boxes[second])
    kept = np.flatnonzero(overlaps >= min_overlap)
    order = kept[np.argsort(-overlaps[kept], kind="stable")]
    first, second = first[order], second[order]
    matches: list[tuple[Ints, Ints]] = [(first[:0], second[:0])]
    while len(first):  # each round takes the pairs that are the best of both their boxes
        is_best = np.zeros(len(first), np.bool_)
        is_best[np.unique(first, return_index=True)[1]] = True
        best_of_second = np.unique(second, return_index=True)[1]
        taken = best_of_second[is_best[best_of_second]]
        matches.append((first[taken], second[taken]))
        rest = ~(np.isin(first, first[taken]) | np.isin(second, second[taken]))
        first, second = first[rest], second[rest]
    return np.concatenate([pair[0] for pair in matches]), np.concatenate([pair[1] for pair in matches])


def _pairs_of_equal_keys(first_keys: Ints, second_keys: Ints) -> tuple[Ints, Ints]:
    """All pairs of positions with the same key."""
    order = np.argsort(second_keys, kind="stable")
    ordered = second_keys[order]
    starts = np.searchsorted(ordered, first_keys, "left")
    counts = np.searchsorted(ordered, first_keys, "right") - starts
    first = np.repeat(np.arange(len(first_keys)), counts)
    within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, order[np.repeat(starts, counts) + within]


def _overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of aligned boxes: (n,)."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    overlaps: Floats = np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)
    return overlaps
