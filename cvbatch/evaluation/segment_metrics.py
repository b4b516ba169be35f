"""Metrics of segmentation, from label maps: pixel accuracy and intersection over union, by class and in the mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.bootstrap import SEED, Estimate, Floats, Ints, WeightedSums, draw_estimates

IGNORED: Final = -1
"""Pixel of a label map that does not count."""
_MOST_DENSE: Final = 2048
"""Classes up to which all pairs are counted in one table."""
LabelMap = npt.NDArray[np.integer[Any]]
"""(height, width): a class for each pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """Results of all classes that occur in the truth or in the predictions; aligned with `classes`."""

    classes: Ints
    iou: list[Estimate]
    truth_pixels: Ints
    predicted_pixels: Ints
    mean_iou: Estimate
    """Mean over the classes that occur in the truth or in the predictions."""
    pixel_accuracy: Estimate
    mean_accuracy: Estimate
    """Mean over the classes that occur in the truth, of the share of their pixels that are right."""


class PixelCounts:
    """Counts pixels, image by image; memory depends on the number of classes only.

    Args:
        classes: Number of classes; pixels of the truth are below it, or `IGNORED`. A predicted pixel may also be
            `classes`: nothing is predicted there.
        seed: Seed of the bootstrap draws.
    """

    def __init__(self, classes: int, *, seed: int = SEED) -> None:
        self._classes = classes
        self._sums = WeightedSums(3 * classes, seed=seed)
        self._pairs = Counter[tuple[int, int]]()
        self.images = 0

    def add_image(self, truth: LabelMap, predicted: LabelMap) -> None:
        """Count the pixels of an image.

        Args:
            truth: Classes, or `IGNORED`.
            predicted: Classes, of the same shape.
        """
        present, cells = count_cells(truth, predicted)
        rows, columns = np.nonzero(cells)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            self._pairs[int(present[row]), int(present[column])] += int(cells[row, column])
        parts = np.zeros((3, self._classes + 1), np.int64)
        parts[0, present] = cells.diagonal()
        parts[1, present] = cells.sum(axis=1)
        parts[2, present] = cells.sum(axis=0)
        self._sums.add_images(parts[None, :, : self._classes].reshape(1, -1))
        self.images += 1

    def most_confused(self, limit: int) -> list[tuple[int, int, int]]:
        """True class, predicted class and number of pixels of the most frequent errors."""
        wrong = [(*pair, pixels) for pair, pixels in self._pairs.items() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda cell: (-cell[2], cell))[:limit]

    def confusion(self) -> list[tuple[int, int, int]]:
        """True class, predicted class and number of pixels of all cells of the confusion matrix that are not empty."""
        return [(*pair, pixels) for pair, pixels in sorted(self._pairs.items())]

    def report(self) -> SegmentReport:
        """The metrics of all images, with bootstrap intervals over images."""
        rates = segment_rates(self._sums.total[None], self._classes)[0]
        estimates = draw_estimates(rates, segment_rates(self._sums.draws, self._classes))
        _, truth, predicted = self._sums.total.reshape(3, -1).astype(np.int64)
        classes = np.flatnonzero(truth + predicted)
        return SegmentReport(
            classes=classes,
            iou=[estimates[index] for index in classes],
            truth_pixels=truth[classes],
            predicted_pixels=predicted[classes],
            mean_iou=estimates[self._classes],
            pixel_accuracy=estimates[self._classes + 1],
            mean_accuracy=estimates[self._classes + 2],
        )


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


def segment_rates(sums: Floats, classes: int) -> Floats:
    """Metrics from sums of pixels.

    Args:
        sums: (draws, 3 × classes) pixels that agree, of the truth, and of the predictions, by class.
        classes: Number of classes.

    Returns:
        (draws, classes + 3): IoU by class, mean IoU, pixel accuracy, mean accuracy; NaN where nothing can be divided.
    """
    same, truth, predicted = sums.reshape(len(sums), 3, classes).transpose(1, 0, 2)
    iou = _divide(same, truth + predicted - same)
    recall = _divide(same, truth)
    accuracy = _divide(same.sum(axis=1), truth.sum(axis=1))
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
