"""Evaluation of detectors: boxes, and masks and keypoints where model and truth have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from cvbatch.evaluation.base import Comparison, Evaluator
from cvbatch.evaluation.coco_evaluator import (
    BOXES,
    KEYPOINTS,
    LVIS_DETECTIONS,
    MASKS,
    ObjectKind,
    ObjectPair,
    best_per_image,
    match_objects,
)
from cvbatch.evaluation.error_kinds import find_error_kinds
from cvbatch.evaluation.object_metrics import (
    ObjectMetrics,
    measure_objects,
    number_classes,
    read_metrics,
    round_numbers,
)
from cvbatch.evaluation.predicted_objects import read_predicted_objects
from cvbatch.evaluation.report import ERROR_KINDS, Metrics
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.truth.base import Bools, Ints, count_names
from cvbatch.truth.categories import MatchedCategories, match_categories
from cvbatch.truth.coco_json import COCO_READER
from cvbatch.truth.objects import ObjectTruth
from cvbatch.truth.stored import STORED_OBJECTS
from cvbatch.truth.voc_folder import VOC_READER
from cvbatch.truth.yolo_folder import YOLO_READER

_ERROR_KINDS: Final = (BOXES, MASKS)
"""What TIDE is about."""


class ObjectScorer:
    """Objects of one model, and the truth; see `Scorer`.

    Args:
        comparison: What to compare; its truth is an `ObjectTruth`.

    Raises:
        UsageError: If no class of the truth is one of the model's, or a class of `comparison.classes` does not exist.
    """

    def __init__(self, comparison: Comparison) -> None:
        truth, model = comparison.truth, comparison.model
        assert isinstance(truth, ObjectTruth)
        categories = match_categories(truth.categories, truth.label_counts, model.categories, truth.source, model.alias)
        self._notes = [*categories.notes]
        self._takes_part = comparison.alignment.takes_part
        self._labels = _judged_labels(comparison, categories)
        sizes = comparison.alignment.row_sizes
        self._same_size = self._compare_sizes(comparison, truth)
        self._kinds = self._find_kinds(comparison, truth)
        predicted = read_predicted_objects(
            comparison,
            categories.truth_labels,
            masks=MASKS in self._kinds,
            keypoints=KEYPOINTS in self._kinds,
        )
        if predicted.other_classes:
            self._notes.append(
                f"predictions of classes that the truth does not name: {sum(predicted.other_classes.values()):,}; they "
                f"take no part: {count_names(predicted.other_classes)}"
            )
        if truth.image_facts is not None:
            predicted = best_per_image(predicted, LVIS_DETECTIONS)
        judged = np.isin(truth.labels, self._labels) & self._takes_part[truth.image_indices]
        self._pair = ObjectPair(
            truth=truth.restrict(judged).in_pixels(sizes),
            predicted=predicted,
            images=np.flatnonzero(self._takes_part),
            sizes=sizes,
        )

    @property
    def notes(self) -> Sequence[str]:
        """See `Scorer.notes`."""
        return self._notes

    def pair_of(self, kind: ObjectKind, images: Bools | None = None) -> ObjectPair:
        """What is compared, of the classes that both know.

        Args:
            kind: Objects without it are left out.
            images: (images of the truth,): only these; None for all that take part.
        """
        chosen = self._takes_part if images is None else self._takes_part & images
        if kind is MASKS:
            chosen = chosen & self._same_size
        is_all = images is None and np.array_equal(chosen, self._takes_part)
        pair = self._pair if is_all else self._pair.of_images(np.flatnonzero(chosen))
        return _with_masks(pair) if kind is MASKS else pair

    def score(self, images: Bools | None = None) -> dict[str, Metrics]:
        """See `Scorer.score`; curves and kinds of error only of all images together."""
        return {kind.name: self._score_kind(kind, images) for kind in self._kinds}

    def _score_kind(self, kind: ObjectKind, images: Bools | None) -> Metrics:
        pair, evaluator = self.pair_of(kind, images), None
        if len(pair.predicted) <= kind.most_objects:
            evaluator = match_objects(pair, self._labels, kind)
            measured = read_metrics(evaluator, self._labels)
        else:
            measured = measure_objects(pair, self._labels, kind)
        return Metrics(
            images=len(pair.images),
            values=measured.values(pair.truth.frequencies),
            per_class=number_classes(measured, pair),
            details={} if images is not None else self._details(pair, kind, measured, evaluator),
        )

    def _details(self, pair: ObjectPair, kind: ObjectKind, measured: ObjectMetrics, evaluator: Any) -> dict[str, Any]:
        curves = zip(measured.labels.tolist(), measured.curves.T, strict=True)
        details: dict[str, Any] = {
            "precision_recall": {
                "iou": 0.5,
                "recall": round_numbers(np.linspace(0, 1, len(measured.curves))),
                "precision": measured.mean_curve(),
                "by_class": {
                    pair.truth.categories[label]: round_numbers(curve) for label, curve in curves if curve[0] > -1
                },
            }
        }
        if kind in _ERROR_KINDS and pair.truth.image_facts is None:
            details[ERROR_KINDS] = find_error_kinds(pair, self._labels, kind, evaluator)
        return details

    def _compare_sizes(self, comparison: Comparison, truth: ObjectTruth) -> Bools:
        """(images,): whether the image has the size that the truth says; those that differ are noted."""
        sizes = comparison.alignment.row_sizes
        if truth.sizes is None:
            return np.ones(len(sizes), np.bool_)
        is_same: Bools = ((truth.sizes == sizes) | (truth.sizes == 0)).all(axis=1)
        wrong = np.flatnonzero(self._takes_part & ~is_same)
        if len(wrong):
            first = int(wrong[0])
            self._notes.append(
                f"images of another size in the truth than in the run: {len(wrong):,}, such as "
                f"{truth.image_names[first]}: {_show_size(truth.sizes[first])} and {_show_size(sizes[first])}; "
                "boxes are compared as they are, masks of these images are not"
            )
        return is_same

    def _find_kinds(self, comparison: Comparison, truth: ObjectTruth) -> list[ObjectKind]:
        """What both the model and the truth have."""
        model, kinds = comparison.model, [BOXES]
        for kind, has_model, has_truth in (
            (MASKS, model.masks, truth.segmentations is not None),
            (KEYPOINTS, model.keypoints, truth.keypoints is not None),
        ):
            if has_model and has_truth:
                kinds.append(kind)
            elif has_model:
                self._notes.append(f"the truth has no {kind.name}, so those of {model.alias} are not judged")
        return kinds


DETECTION_EVALUATOR: Final = Evaluator(
    readers=(STORED_OBJECTS, COCO_READER, VOC_READER, YOLO_READER), open_scorer=ObjectScorer
)


def _judged_labels(comparison: Comparison, categories: MatchedCategories) -> Ints:
    """Positions in the truth's categories of those that the model knows and the user wants."""
    if comparison.classes is None:
        return np.flatnonzero(categories.is_known)
    label_ids = label_ids_of_classes(comparison.model, comparison.classes).to_numpy()
    labels = np.unique(categories.truth_labels[label_ids])
    return labels[labels >= 0]


def _with_masks(pair: ObjectPair) -> ObjectPair:
    """Without the objects that have a box and no mask."""
    has_mask = np.array([segmentation is not None for segmentation in pair.truth.segmentations or ()], np.bool_)
    return pair if has_mask.all() else replace(pair, truth=pair.truth.restrict(has_mask))


def _show_size(size: Ints) -> str:
    return f"{size[0]} × {size[1]}"
