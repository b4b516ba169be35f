"""COCO's numbers, per class numbers and curves, from what was matched class by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.coco_evaluator import ObjectKind, ObjectPair, match_objects
from cvbatch.evaluation.report import Numbers
from cvbatch.truth.base import Bools, Ints

Floats = npt.NDArray[np.float64]
_ALL_AREAS: Final = 0
_LAST: Final = -1
"""The largest number of detections that is taken of an image."""
_GROUPS: Final = {"r": "rare", "c": "common", "f": "frequent"}
_DIGITS: Final = 6


@dataclass(frozen=True)
class ObjectMetrics:
    """Numbers about some classes; -1 where there is no truth."""

    labels: Ints
    """(classes,): positions in the categories of the truth."""
    precision: Floats
    """(IoU thresholds, classes, areas): mean over 101 recalls, with all detections of an image."""
    recall: Floats
    """(IoU thresholds, classes, areas, numbers of detections)"""
    curves: Floats
    """(recalls, classes): precision at IoU 0.5."""
    scores: Floats
    """(recalls, classes): the score at which that recall is reached at IoU 0.5."""
    definitions: Sequence[dict[str, Any]]
    """The main numbers as hotcoco defines them: threshold, area, detections, group."""
    iou_thresholds: Sequence[float]
    areas: Sequence[str]
    detections: Sequence[int]

    def values(self, frequencies: Sequence[str] | None) -> dict[str, float | None]:
        """The main numbers by COCO's names.

        Args:
            frequencies: Of LVIS, for each category of the truth; else None.
        """
        return {definition["name"]: self._value(definition, frequencies) for definition in self.definitions}

    def class_numbers(self) -> Iterator[tuple[int, dict[str, float | None]]]:
        """Label and numbers of each class: AP, AP50, AP75, recall, best F1 at IoU 0.5 and where it is."""
        recalls = np.linspace(0, 1, len(self.curves))
        for index, label in enumerate(self.labels.tolist()):
            by_threshold = self.precision[:, index, _ALL_AREAS]
            curve = self.curves[:, index]
            f1 = 2 * curve * recalls / np.maximum(curve + recalls, 1e-12)
            best = int(f1.argmax())
            has_truth = bool(by_threshold[0] > -1)
            yield (
                label,
                {
                    "AP": mean_of_valid(by_threshold),
                    "AP50": mean_of_valid(by_threshold[self._threshold_mask(0.5)]),
                    "AP75": mean_of_valid(by_threshold[self._threshold_mask(0.75)]),
                    "AR": mean_of_valid(self.recall[:, index, _ALL_AREAS, _LAST]),
                    "best F1": float(f1[best]) if has_truth else None,
                    "at score": float(self.scores[best, index]) if has_truth and f1[best] > 0 else None,
                },
            )

    def mean_curve(self) -> list[float]:
        """Mean precision over the classes with truth at each of 101 recalls, at IoU 0.5."""
        with_truth = self.curves[:, self.curves[0] > -1] if self.curves.size else self.curves
        return round_numbers(with_truth.mean(axis=1)) if with_truth.shape[1] else []

    def _value(self, definition: dict[str, Any], frequencies: Sequence[str] | None) -> float | None:
        area = self.areas.index(definition["area"])
        numbers = (
            self.precision[..., area]
            if definition["ap"]
            else self.recall[..., area, self.detections.index(definition["max_det"])]
        )
        if definition["iou_thr"] is not None:
            numbers = numbers[self._threshold_mask(definition["iou_thr"])]
        if definition["freq_group"] is not None and frequencies is not None:
            in_group = [_GROUPS.get(frequencies[label]) == definition["freq_group"] for label in self.labels]
            numbers = numbers[:, np.array(in_group, np.bool_)]
        return mean_of_valid(numbers)

    def _threshold_mask(self, threshold: float) -> Bools:
        return np.isclose(self.iou_thresholds, threshold)


def measure_objects(pair: ObjectPair, labels: Ints, kind: ObjectKind) -> ObjectMetrics:
    """Match and measure, in parts of so many classes that their predictions fit.

    Args:
        pair: Truth and predictions.
        labels: The classes to judge, as positions in the categories of the truth, ascending.
        kind: What is compared.
    """
    groups = group_classes(pair, labels, kind.most_objects)
    if len(groups) == 1:
        return read_metrics(match_objects(pair, labels, kind), labels)
    parts = [read_metrics(match_objects(pair.of_classes(group), group, kind), group) for group in groups]
    first = parts[0]
    return ObjectMetrics(
        labels=labels,
        precision=np.concatenate([part.precision for part in parts], axis=1),
        recall=np.concatenate([part.recall for part in parts], axis=1),
        curves=np.concatenate([part.curves for part in parts], axis=1),
        scores=np.concatenate([part.scores for part in parts], axis=1),
        definitions=first.definitions,
        iou_thresholds=first.iou_thresholds,
        areas=first.areas,
        detections=first.detections,
    )


def read_metrics(evaluator: Any, labels: Ints) -> ObjectMetrics:
    """Accumulate what an evaluator has matched.

    Args:
        evaluator: From `match_objects`.
        labels: Its classes, ascending.
    """
    evaluator.accumulate()
    arrays, params = evaluator.eval, evaluator.params
    precision = arrays["precision"][..., _LAST]
    half = int(np.flatnonzero(np.isclose(params.iou_thrs, 0.5))[0])
    return ObjectMetrics(
        labels=labels,
        precision=precision.mean(axis=1),
        recall=np.array(arrays["recall"]),
        curves=precision[half, :, :, _ALL_AREAS].copy(),
        scores=arrays["scores"][half, :, :, _ALL_AREAS, _LAST].copy(),
        definitions=evaluator.metric_defs(),
        iou_thresholds=params.iou_thrs,
        areas=params.area_rng_lbl,
        detections=params.max_dets,
    )


def group_classes(pair: ObjectPair, labels: Ints, most_objects: int) -> list[Ints]:
    """Consecutive classes with at most so many predictions together; a class with more stands alone."""
    counts = np.bincount(pair.predicted.labels, minlength=len(pair.truth.categories))[labels]
    groups: list[list[int]] = []
    room = 0
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        if not groups or count > room:
            groups.append([])
            room = most_objects
        groups[-1].append(label)
        room -= count
    return [np.array(group) for group in groups] or [labels]


def mean_of_valid(numbers: Floats) -> float | None:
    """Mean of what is not -1, as COCO calculates it; None if there is nothing."""
    valid = numbers[numbers > -1]
    return float(valid.mean()) if len(valid) else None


def round_numbers(numbers: Floats) -> list[float]:
    """Numbers with six digits, for JSON."""
    return [round(number, _DIGITS) for number in numbers.tolist()]


def count_objects(pair: ObjectPair) -> tuple[Ints, Ints]:
    """How many objects of each category the truth has (without crowds) and the predictions have."""
    count = len(pair.truth.categories)
    real = pair.truth.labels[~pair.truth.is_crowd]
    return np.bincount(real, minlength=count), np.bincount(pair.predicted.labels, minlength=count)


def number_classes(metrics: ObjectMetrics, pair: ObjectPair) -> dict[str, Numbers]:
    """Numbers of each class by its name, those with the most objects first, without those that are nowhere."""
    truths, predictions = count_objects(pair)
    numbers_of_label = dict(metrics.class_numbers())
    return {
        pair.truth.categories[label]: {
            **numbers,
            "objects": int(truths[label]),
            "predictions": int(predictions[label]),
        }
        for label, numbers in sorted(numbers_of_label.items(), key=lambda item: -truths[item[0]])
        if truths[label] or predictions[label]
    }
