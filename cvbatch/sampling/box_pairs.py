"""Boxes of two models that are the same object."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.results.overlapping_boxes import find_overlapping_pairs

Numbers = npt.NDArray[np.floating[Any]]
Keys = npt.NDArray[np.integer[Any]]
MIN_OVERLAP: Final = 0.5
"""Intersection over union from which two boxes are the same object, as in Pascal VOC."""


def find_counterparts(
    first_keys: Keys, first_boxes: Numbers, second_keys: Keys, second_boxes: Numbers
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Find boxes with a counterpart: the best of all for each other, and with enough overlap.

    Args:
        first_keys: (n,), a number for the image and the class of each box; boxes of equal keys are compared.
        first_boxes: (n, 4), x_min, y_min, x_max, y_max.
        second_keys: (m,)
        second_boxes: (m, 4)

    Returns:
        Whether each box has a counterpart: (n,) and (m,).
    """
    first, second, overlaps = find_overlapping_pairs(first_keys, first_boxes, second_keys, second_boxes, MIN_OVERLAP)
    mutual = _is_best(first, overlaps) & _is_best(second, overlaps)
    matched = np.zeros(len(first_keys), np.bool_), np.zeros(len(second_keys), np.bool_)
    matched[0][first[mutual]] = True
    matched[1][second[mutual]] = True
    return matched


def _is_best(owners: Keys, overlaps: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether each pair is the first of the best of its owner."""
    order = np.lexsort((-overlaps, owners))
    best = np.zeros(len(owners), np.bool_)
    best[order[np.diff(owners[order], prepend=-1) > 0]] = True
    return best
