"""Boundary F1: how well the outlines of two label maps agree.

Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013: a boundary pixel of one map
counts if the other has a boundary pixel of the same class within a distance of 0.75 % of the image's diagonal.
Precision is the share of the predicted boundary pixels that count, recall that of the truth. The border of the image is
no boundary, nor is that of ignored pixels.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from cvbatch.evaluation.bootstrap import Floats, Ints
from cvbatch.evaluation.segment_metrics import LabelMap
from cvbatch.tasks.masks import Mask
from cvbatch.truth.base import IGNORED

BOUNDARY_TOLERANCE: Final = 0.0075
"""Largest distance of two boundary pixels that agree, as a share of the diagonal."""


def boundary_f1(truth: LabelMap, predicted: LabelMap) -> tuple[Ints, Floats]:
    """Boundary F1 of an image.

    Args:
        truth: Classes, or `IGNORED`.
        predicted: Classes, of the same shape.

    Returns:
        The classes that have a boundary in one of the maps, (n,), and their boundary F1, (n,).
    """
    predicted = np.where(truth == IGNORED, IGNORED, predicted)
    radius = BOUNDARY_TOLERANCE * math.hypot(*truth.shape)
    points = [_BoundaryPoints(labels) for labels in (truth, predicted)]
    size = 1 + max(int(side.classes.max(initial=-1)) for side in points)
    totals = [np.bincount(side.classes, minlength=size) for side in points]
    near = [
        np.bincount(side.classes[side.are_near(other, radius)], minlength=size)
        for side, other in (points, reversed(points))
    ]
    present = np.flatnonzero(totals[0] + totals[1])
    recall, precision = (near[side][present] / np.maximum(totals[side][present], 1) for side in (0, 1))
    f1: Floats = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    return present, f1


def boundary_mask(labels: LabelMap) -> Mask:
    """Which pixels have a pixel of another class above, below, to the left or to the right: (height, width).

    Args:
        labels: Classes, or `IGNORED`.
    """
    mask = np.zeros(labels.shape, np.bool_)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = (labels[first] != labels[second]) & (labels[first] != IGNORED) & (labels[second] != IGNORED)
        mask[first] |= differs
        mask[second] |= differs
    return mask


class _BoundaryPoints:
    """Boundary pixels of a label map, sorted by class, column and row, so that neighbours are found by bisection."""

    def __init__(self, labels: LabelMap) -> None:
        self._height, self._width = labels.shape
        columns, rows = np.nonzero(boundary_mask(labels).T)
        classes = labels[rows, columns].astype(np.int64)
        order = np.argsort(classes, kind="stable")
        self.classes: Ints = classes[order]
        self.columns: Ints = columns[order]
        self.rows: Ints = rows[order]
        self.keys: Ints = self.make_keys(self.columns, np.arange(len(order)))

    def make_keys(self, columns: Ints, points: Ints) -> Ints:
        """Keys of points in other columns: those of one class and column are together, in the order of their rows."""
        # twice the height, so that the next column is farther away than any row
        keys: Ints = (self.classes[points] * self._width + columns) * 2 * self._height + self.rows[points]
        return keys

    def are_near(self, other: _BoundaryPoints, radius: float) -> Mask:
        """Which points have a point of the same class in the other map within a distance in pixels: (points,)."""
        is_near = np.zeros(len(self.keys), np.bool_)
        if not len(other.keys):
            return is_near
        reach = int(radius)
        for shift in sorted(range(-reach, reach + 1), key=abs):
            columns = self.columns + shift
            points = np.flatnonzero(~is_near & (columns >= 0) & (columns < self._width))
            distances = _nearest_distances(other.keys, self.make_keys(columns[points], points))
            is_near[points[distances <= math.sqrt(radius**2 - shift**2)]] = True
        return is_near


def _nearest_distances(sorted_keys: Ints, keys: Ints) -> Ints:
    """Distance of each key to the nearest of the sorted ones, of which there is at least one."""
    after = np.searchsorted(sorted_keys, keys)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(sorted_keys) - 1)
    distances: Ints = np.minimum(np.abs(sorted_keys[after] - keys), np.abs(sorted_keys[before] - keys))
    return distances
