"""Evaluates classification: accuracy, precision, recall, F1, confusion and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.evaluation.base import Comparison, Evaluator
from cvbatch.evaluation.bootstrap import Estimate, plain_number
from cvbatch.evaluation.calibration import CALIBRATION_BINS, calibration_bins, calibration_error
from cvbatch.evaluation.class_metrics import (
    NOT_RANKED,
    ClassReport,
    Confusion,
    LabelledImages,
    count_confusion,
    most_confused,
    report_classes,
    top_accuracy,
)
from cvbatch.evaluation.report import Metrics
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import ROW_ID
from cvbatch.tasks import CLASSIFICATION
from cvbatch.truth.base import Bools
from cvbatch.truth.class_names import ClassNumbers, number_classes
from cvbatch.truth.labels import LABEL_READERS, LabelTruth
from cvbatch.truth.stored import STORED_CLASSES

_TOP: Final = 5
_MOST_CONFUSED: Final = 10
_BATCH_ROWS: Final = 131_072


@dataclass(frozen=True, slots=True)
class JudgedLabels:
    """Answers and truth of images."""

    images: LabelledImages
    """Aligned with the images of the truth; those that take no part have no meaning."""
    takes_part: Bools
    """(images of the truth,)"""


class LabelScorer:
    """Scores one model; holds 14 bytes for each image of the truth.

    Args:
        comparison: Predictions and truth; the truth is a `LabelTruth`.

    Raises:
        UsageError: If the truth names no class of the model, or no image takes part.
    """

    def __init__(self, comparison: Comparison) -> None:
        truth = cast(LabelTruth, comparison.truth)
        self._model = comparison.model
        self._numbers = number_classes(truth.categories, truth.label_counts, comparison.model, truth.source)
        self.judged = read_judged_labels(comparison, truth, self._numbers)
        self.notes: Sequence[str] = (*self._numbers.notes, *self._score_notes(comparison))

    def score(self, images: Bools | None = None) -> dict[str, Metrics]:
        """See `Scorer.score`."""
        chosen = np.flatnonzero(self.judged.takes_part if images is None else self.judged.takes_part & images)
        labelled = select_images(self.judged.images, chosen)
        if not len(chosen):
            return {CLASSIFICATION.name: Metrics(images=0, values={})}
        confusion = count_confusion(labelled)
        report = report_classes(confusion)
        estimates = {
            **self._accuracies(labelled),
            "balanced accuracy": report.balanced_accuracy,
            "macro precision": report.macro_precision,
            "macro recall": report.macro_recall,
            "macro F1": report.macro_f1,
            "calibration error": calibration_error(labelled),
        }
        metrics = Metrics(
            images=len(chosen),
            values={name: plain_number(estimate.value) for name, estimate in estimates.items()},
            intervals={name: (estimate.low, estimate.high) for name, estimate in estimates.items()},
            per_class=dict(self._class_rows(report)),
            tables={"most confused": self._confused_rows(confusion)} if images is None else {},
            details=self._details(confusion, report, labelled) if images is None else {},
        )
        return {CLASSIFICATION.name: metrics}

    def _accuracies(self, labelled: LabelledImages) -> dict[str, Estimate]:
        counts = [1, self.top_count] if self.top_count > 1 else [1]
        return {f"top-{count}": top_accuracy(labelled, count) for count in counts}

    @property
    def top_count(self) -> int:
        """How many best classes count besides the best: 5, or as many as the run has; 1 if it has too few classes."""
        best = min(_TOP, self._model.top_k)
        return best if sum(name is not None for name in self._model.categories) > best else 1

    def _class_rows(self, report: ClassReport) -> Iterator[tuple[str, dict[str, float | None]]]:
        for index in np.argsort(-report.support, kind="stable"):
            rates = {"precision": report.precision, "recall": report.recall, "F1": report.f1}
            numbers = {name: plain_number(rate[index].value) for name, rate in rates.items()}
            counts = {"images": int(report.support[index]), "answers": int(report.predicted[index])}
            yield self._numbers.names[report.classes[index]], {**counts, **numbers}

    def _confused_rows(self, confusion: Confusion) -> list[dict[str, Any]]:
        names, width = self._numbers.names, len(self._numbers.names)
        totals = np.bincount(confusion.truth, confusion.counts, width)
        return [
            {"truth": names[true], "answer": names[answer], "images": count, "share": count / totals[true]}
            for true, answer, count in most_confused(confusion, _MOST_CONFUSED)
        ]

    def _details(self, confusion: Confusion, report: ClassReport, labelled: LabelledImages) -> dict[str, Any]:
        names = self._numbers.names
        cells = zip(confusion.truth.tolist(), confusion.predicted.tolist(), confusion.counts.tolist(), strict=True)
        rates = {"precision": report.precision, "recall": report.recall, "F1": report.f1}
        return {
            "confusion": [[names[true], names[answer], count] for true, answer, count in cells],
            "class_intervals": {
                names[label]: {name: [rate[index].low, rate[index].high] for name, rate in rates.items()}
                for index, label in enumerate(report.classes)
            },
            "calibration_bins": [
                {
                    "low": part.low,
                    "high": part.high,
                    "images": part.images,
                    "mean_score": part.mean_score,
                    "accuracy": part.accuracy,
                }
                for part in calibration_bins(labelled)
            ],
        }

    def _score_notes(self, comparison: Comparison) -> Iterator[str]:
        aligned, judged = comparison.alignment.takes_part.sum(), self.judged.takes_part.sum()
        if judged < aligned:
            yield f"{aligned - judged:,} images left out: another class, or a score below the least one"
        yield f"calibration error: {CALIBRATION_BINS} bins of equal width; macro: mean over the classes that occur"


def read_judged_labels(comparison: Comparison, truth: LabelTruth, numbers: ClassNumbers) -> JudgedLabels:
    """Read the answers to all images of the truth.

    Args:
        comparison: Says which rows, classes and scores take part.
        truth: True classes.
        numbers: Their label ids.

    Raises:
        UsageError: If no image takes part.
    """
    model, count = comparison.model, len(truth.image_names)
    true_ids = numbers.label_ids[truth.labels].astype(np.int32)
    predicted, scores = np.full(count, -1, np.int32), np.zeros(count, np.float32)
    ranks = np.full(count, NOT_RANKED, np.int8)
    names = [f"{model.alias}_{short}" for short in ("label_id", "score", "top_label_ids")]
    for table in iter_rows(comparison.opened, RowSelection(columns=[ROW_ID, *names]), batch_rows=_BATCH_ROWS):
        indices = comparison.alignment.truth_indices(table[ROW_ID].to_numpy())
        kept = np.flatnonzero(indices >= 0)
        rows, places = table.take(kept), indices[kept]
        predicted[places] = numbers.same_as[rows[names[0]].to_numpy()]
        scores[places] = rows[names[1]].to_numpy()
        ranks[places] = _rank_truth(rows[names[2]], numbers.same_as, true_ids[places])
    takes_part = comparison.alignment.takes_part & (predicted >= 0)
    if comparison.min_score is not None:
        takes_part &= scores >= comparison.min_score
    if comparison.classes is not None:
        takes_part &= np.isin(true_ids, label_ids_of_classes(model, comparison.classes).to_numpy())
    if not takes_part.any():
        raise UsageError(
            f"{comparison.opened.store.root}: expected images with an answer of {model.alias} and a class in "
            f"{truth.source}; got none with this condition, these classes and this least score"
        )
    images = LabelledImages(truth=true_ids, predicted=predicted, ranks=ranks, scores=scores)
    return JudgedLabels(images, takes_part)


def select_images(images: LabelledImages, chosen: npt.NDArray[np.intp]) -> LabelledImages:
    """Some of the images."""
    return LabelledImages(
        truth=images.truth[chosen],
        predicted=images.predicted[chosen],
        ranks=images.ranks[chosen],
        scores=images.scores[chosen],
    )


def _rank_truth(best: pa.ChunkedArray, same_as: npt.NDArray[np.int64], truth: npt.NDArray[np.int32]) -> Any:
    """Position of the true class in each list of best classes, or `NOT_RANKED`: int8, (images,)."""
    lists = best.combine_chunks() if best.num_chunks != 1 else best.chunk(0)
    images = pc.list_parent_indices(lists).to_numpy()
    ids = same_as[pc.list_flatten(lists).to_numpy()]
    starts = np.searchsorted(images, np.arange(len(truth)))
    hits = np.flatnonzero(ids == truth[images])[::-1]  # of several ids of one class the first remains
    ranks = np.full(len(truth), NOT_RANKED, np.int8)
    ranks[images[hits]] = np.minimum(hits - starts[images[hits]], NOT_RANKED)
    return ranks


CLASSIFICATION_EVALUATOR: Final = Evaluator((STORED_CLASSES, *LABEL_READERS), LabelScorer)
