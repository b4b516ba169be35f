"""Matches boxes of two runs, of many images at once: the best pairs first, each box once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvbatch.results.overlapping_boxes import find_overlapping_pairs

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
    first, second, overlaps = find_overlapping_pairs(first_keys, first_boxes, second_keys, second_boxes, min_overlap)
    order = np.argsort(-overlaps, kind="stable")
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
