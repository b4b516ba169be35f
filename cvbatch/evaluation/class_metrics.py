"""Metrics of classification, from arrays: accuracy, precision, recall, F1 and the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.bootstrap import Estimate, Floats, Ints, draw_estimates, resample_metrics

NOT_RANKED: Final = 127
"""Rank of a true class that is not among the best of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """What classification metrics need of each image; 14 bytes an image."""

    truth: npt.NDArray[np.int32]
    """(images,) the true class: a label id, or beyond the model's ids for a class that it does not know."""
    predicted: npt.NDArray[np.int32]
    """(images,) label id of the best class."""
    ranks: npt.NDArray[np.int8]
    """(images,) position of the true class among the best, 0 if it is the best; `NOT_RANKED` if it is not there."""
    scores: npt.NDArray[np.float32]
    """(images,) score of the best class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """The cells of the confusion matrix that are not empty; aligned, sorted by true class."""

    truth: Ints
    """(cells,)"""
    predicted: Ints
    """(cells,)"""
    counts: Ints
    """(cells,)"""
    classes: Ints
    """(classes,) sorted: all classes that occur, in the truth or in the predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport:
    """Precision, recall and F1 of each class that occurs; aligned with `classes`; 0 where nothing can be divided."""

    classes: Ints
    support: Ints
    """Images of the class in the truth."""
    predicted: Ints
    """Images with this answer."""
    precision: list[Estimate]
    recall: list[Estimate]
    f1: list[Estimate]
    macro_precision: Estimate
    """Mean over all classes that occur, as in scikit-learn's `classification_report`."""
    macro_recall: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate
    """Mean recall of the classes that occur in the truth."""


def count_confusion(images: LabelledImages) -> Confusion:
    """Count true against predicted classes."""
    width = 1 + max(int(images.truth.max(initial=0)), int(images.predicted.max(initial=0)))
    cells, counts = np.unique(images.truth.astype(np.int64) * width + images.predicted, return_counts=True)
    truth, predicted = np.divmod(cells, width)
    return Confusion(
        truth=truth, predicted=predicted, counts=counts, classes=np.unique(np.concatenate([truth, predicted]))
    )


def top_accuracy(images: LabelledImages, best: int) -> Estimate:
    """Share of images whose true class is among the best few.

    Args:
        images: At least one image.
        best: Number of best classes that count.
    """
    is_hit = images.ranks < best
    groups = np.array([len(is_hit) - is_hit.sum(), is_hit.sum()], np.int64)
    draws = resample_metrics(groups, lambda counts: counts[:, 1:] / len(is_hit))
    return draw_estimates(groups[1:] / len(is_hit), draws)[0]


def report_classes(confusion: Confusion) -> ClassReport:
    """Precision, recall and F1, with bootstrap intervals over images."""
    classes = confusion.classes
    per_class = _ClassRates(confusion)
    rates = per_class.compute(confusion.counts[None])[0]
    draws = resample_metrics(confusion.counts, per_class.compute)
    columns = draw_estimates(rates, draws)
    size = len(classes)
    by_metric = [columns[first : first + size] for first in range(0, 3 * size, size)]
    support, predicted = (
        np.bincount(np.searchsorted(classes, ids), confusion.counts, size).astype(np.int64)
        for ids in (confusion.truth, confusion.predicted)
    )
    return ClassReport(
        classes=classes,
        support=support,
        predicted=predicted,
        precision=by_metric[0],
        recall=by_metric[1],
        f1=by_metric[2],
        macro_precision=columns[3 * size],
        macro_recall=columns[3 * size + 1],
        macro_f1=columns[3 * size + 2],
        balanced_accuracy=columns[3 * size + 3],
    )


def class_means(first: LabelledImages, second: LabelledImages) -> tuple[Floats, Floats]:
    """Balanced accuracy and macro F1 of two models on the same images, with paired bootstrap draws.

    Args:
        first: Images with the answers of one model.
        second: The same images with those of another.

    Returns:
        (2, 2) model × metric, and (draws, 2, 2).
    """
    width = 1 + max(int(side.max(initial=0)) for side in (first.truth, first.predicted, second.truth, second.predicted))
    columns = (first.truth, first.predicted, second.truth, second.predicted)
    keys = np.stack([side.astype(np.int64) for side in columns], axis=1)
    cells, counts = np.unique(keys, axis=0, return_counts=True)
    rates = [
        _ClassRates(
            Confusion(
                truth=cells[:, 2 * side], predicted=cells[:, 2 * side + 1], counts=counts, classes=np.arange(width)
            )
        )
        for side in (0, 1)
    ]

    def means(resampled: Ints) -> Floats:
        return np.stack([side.compute(resampled)[:, [-1, -2]] for side in rates], axis=1)

    return means(counts[None])[0], resample_metrics(counts, means)


def most_confused(confusion: Confusion, limit: int) -> list[tuple[int, int, int]]:
    """True class, predicted class and number of images of the most frequent errors."""
    wrong = np.flatnonzero(confusion.truth != confusion.predicted)
    order = wrong[np.argsort(-confusion.counts[wrong], kind="stable")][:limit]
    columns = (confusion.truth[order], confusion.predicted[order], confusion.counts[order])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def f1_rates(hits: Floats, truth: Floats, predicted: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1; 0 where the denominator is 0, as scikit-learn's `zero_division=0`.

    Args:
        hits: (..., classes) images of the class with this answer.
        truth: (..., classes) images of the class.
        predicted: (..., classes) images with this answer.
    """
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(truth, 1)
    return precision, recall, 2 * hits / np.maximum(truth + predicted, 1)


class _ClassRates:
    """Precision, recall and F1 of all classes, then their means, from (resampled) counts of the cells."""

    def __init__(self, confusion: Confusion) -> None:
        self._rows = np.searchsorted(confusion.classes, confusion.truth)
        self._columns = np.searchsorted(confusion.classes, confusion.predicted)
        self._size = len(confusion.classes)

    def compute(self, counts: Ints) -> Floats:
        """From (draws, cells) to (draws, 3 × classes + 4)."""
        hits = _sum_by_class(np.where(self._rows == self._columns, counts, 0), self._rows, self._size)
        truth = _sum_by_class(counts, self._rows, self._size)
        predicted = _sum_by_class(counts, self._columns, self._size)
        precision, recall, f1 = f1_rates(hits, truth, predicted)
        occurs = (truth + predicted) > 0
        means = [np.sum(rate, axis=1) / np.maximum(occurs.sum(axis=1), 1) for rate in (precision, recall, f1)]
        balanced = recall.sum(axis=1) / np.maximum((truth > 0).sum(axis=1), 1)
        return np.concatenate([precision, recall, f1, np.stack([*means, balanced], axis=1)], axis=1)


def _sum_by_class(counts: Ints, classes: Ints, size: int) -> Floats:
    """Sum (draws, cells) by the class of each cell: (draws, size)."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    sums = np.zeros((len(counts), size))
    sums[:, present] = np.add.reduceat(counts[:, order], starts, axis=1) if len(order) else 0
    return sums
