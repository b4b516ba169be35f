"""Metrics of segmentation, from label maps: pixel accuracy and intersection over union, by class and in the mean."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.bootstrap import Floats, Ints
from cvbatch.truth.base import IGNORED

_MOST_DENSE: Final = 2048
"""Classes up to which all pairs are counted in one table."""
LabelMap = npt.NDArray[np.integer[Any]]
"""(height, width): a class for each pixel."""


def count_cells(truth: LabelMap, predicted: LabelMap) -> tuple[Ints, Ints]:
    """Count the pairs of classes of an image.

    Args:
        truth: Classes, or `IGNORED`.
        predicted: Classes, of the same shape.

    Returns:
        The classes that occur, (n,), and the pixels of each pair of true and predicted class, (n, n).
    """
    size = 1 + max(int(truth.max(initial=0)), int(predicted.max(initial=0)))
    if size > _MOST_DENSE:
        present, places = np.unique(np.stack([truth, predicted]), return_inverse=True)
        inside = present != IGNORED
        first, second = places.reshape(2, -1)
        cells = _count_dense(first, second, len(present))[np.ix_(inside, inside)]
        return present[inside].astype(np.int64), cells
    # one row and column more for ignored pixels, which are below 0
    cells = _count_dense(truth.astype(np.int64) + 1, predicted.astype(np.int64) + 1, size + 1)[1:, 1:]
    present = np.flatnonzero(cells.any(axis=0) | cells.any(axis=1))
    return present, cells[np.ix_(present, present)]


def segment_rates(sums: Floats, classes: int, chosen: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Metrics from sums of pixels.

    Args:
        sums: (draws, 3 × classes) pixels that agree, of the truth, and of the predictions, by class.
        classes: Number of classes.
        chosen: (classes,) which are in the means; None for all.

    Returns:
        (draws, classes + 3): IoU by class, mean IoU, pixel accuracy, mean accuracy; NaN where nothing can be divided.
    """
    same, truth, predicted = sums.reshape(len(sums), 3, classes).transpose(1, 0, 2)
    iou = _divide(same, truth + predicted - same)
    recall = _divide(same, truth)
    accuracy = _divide(same.sum(axis=1), truth.sum(axis=1))
    if chosen is not None:
        iou, recall = np.where(chosen, iou, np.nan), np.where(chosen, recall, np.nan)
    return np.concatenate([iou, np.stack([_defined_mean(iou), accuracy, _defined_mean(recall)], axis=1)], axis=1)


def _count_dense(first: Ints, second: Ints, size: int) -> Ints:
    """Count pairs of numbers below `size`: (size, size)."""
    cells: Ints = np.bincount((first * size + second).reshape(-1, order="A"), minlength=size**2)
    return cells.reshape(size, size)


def _divide(numbers: Floats, by: Floats) -> Floats:
    quotients = np.full(numbers.shape, np.nan)
    np.divide(numbers, by, out=quotients, where=by > 0)
    return quotients


def _defined_mean(rates: Floats) -> Floats:
    """Mean over the classes whose rate is defined; NaN if none is."""
    is_defined = ~np.isnan(rates)
    return _divide(np.where(is_defined, rates, 0).sum(axis=1), is_defined.sum(axis=1))
