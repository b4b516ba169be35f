"""Classification: the best class and the best k of each image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.images.preprocess import Size
from cvbatch.schema import FLOATS, INTS, STRINGS
from cvbatch.tasks.arrow import category_names, split_into_lists
from cvbatch.tasks.base import Agreement, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.output_checks import ROUNDING, Array, replace_impossible, to_number_rows

TOP_K: Final = 5
"""Default number of best classes in the predictions."""
SAME_LABEL: Final = 0.99
SCORE_DIFFERENCE: Final = 0.01
"""The tolerances of the parity certificate: the least share of equal labels, and the mean difference of scores."""


class ClassificationTask(Task):
    """An answer is a float32 vector of scores from 0 to 1, (classes,)."""

    name = "classification"
    default_model = "efficientnet_lite0"
    options = ("top_k",)
    batch_sizes = BatchSizes(cpu=8, cuda=128)
    label_column = "label"

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.column_types`."""
        return {
            "label": pa.string(),
            "label_id": pa.int32(),
            "score": pa.float32(),
            "top_labels": STRINGS,
            "top_label_ids": INTS,
            "top_scores": FLOATS,
        }

    def to_columns(self, model: ModelFacts, answers: Sequence[Any]) -> dict[str, pa.Array]:
        """See `Task.to_columns`; classes without a name are left out; equal scores are ordered by label id."""
        scores = np.stack(answers)
        named = np.flatnonzero([name is not None for name in model.categories])
        candidates = scores if len(named) == scores.shape[1] else scores[:, named]
        ids = named[best_of(candidates, model.top_k)].astype(np.int32)
        label_ids = pa.array(ids.reshape(-1))
        top_scores = pa.array(np.take_along_axis(scores, ids, axis=1).reshape(-1))
        labels = category_names(model).take(label_ids)
        lengths = np.full(len(ids), ids.shape[1])
        first = pa.array(np.arange(len(ids)) * ids.shape[1])
        return {
            "label": labels.take(first),
            "label_id": label_ids.take(first),
            "score": top_scores.take(first),
            "top_labels": split_into_lists(labels, lengths),
            "top_label_ids": split_into_lists(label_ids, lengths),
            "top_scores": split_into_lists(top_scores, lengths),
        }

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Return the outputs' `scores`."""
        scores: Sequence[Any] = outputs.scores
        return scores

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse_answers`: scores or logits, (images, categories)."""
        rows = to_number_rows(model, "scores", raw, (len(sizes), len(model.categories)))
        return list(_softmax_rows(rows) if logits else rows)

    def check_answers(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """See `Task.check_answers`: scores are finite, and from 0 to 1."""
        return replace_impossible(answers, -ROUNDING, 1 + ROUNDING, partial(_explain_scores, model))

    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare_columns`: by the share of equal labels, and the mean difference of their scores."""
        labels = [_to_float_array(columns["label_id"]) for columns in (reference, candidate)]
        scores = [_to_float_array(columns["score"]) for columns in (reference, candidate)]
        same_share = float(np.mean(labels[0] == labels[1])) if len(labels[0]) else 0.0
        difference = float(np.mean(np.abs(scores[0] - scores[1]))) if len(scores[0]) else 1.0
        measured = {"same_label": same_share, "mean_score_difference": difference}
        return measured, same_share >= SAME_LABEL and difference < SCORE_DIFFERENCE


CLASSIFICATION: Final = ClassificationTask()


def best_of(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Find the highest scores of each row; partitioning takes an eighth of the time of sorting 1000 classes.

    Args:
        scores: (rows, classes).
        count: Number of scores to find.

    Returns:
        Their positions, (rows, at most count), best first; equal scores are ordered by position.
    """
    count = min(count, scores.shape[1])
    lowest = np.partition(scores, -count, axis=1)[:, -count, None]
    positions = np.empty((len(scores), count), np.int64)
    candidates = scores >= lowest
    # rows in which no further class has the lowest selected score
    unique = np.count_nonzero(candidates, axis=1) == count
    positions[unique] = np.nonzero(candidates[unique])[1].reshape(-1, count)
    order = np.argsort(-np.take_along_axis(scores[unique], positions[unique], axis=1), axis=1, kind="stable")
    positions[unique] = np.take_along_axis(positions[unique], order, axis=1)
    positions[~unique] = np.argsort(-scores[~unique], axis=1, kind="stable")[:, :count]
    return positions


def _softmax_rows(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # a row that is not finite has no probabilities; it is refused later
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _explain_scores(model: ModelFacts, row: Array) -> str:
    finite = np.isfinite(row)
    hint = ""
    if not finite.all():
        label_id = int((~finite).argmax())
    else:
        largest = int(np.abs(row).argmax())
        label_id = largest if abs(row[largest]) > 1 + ROUNDING else int(row.argmin())
        hint = ": a model that returns logits says so with `logits = True`"
    message = f"expected scores from 0 to 1, got {row[label_id]:g} for label id {label_id}{hint}"
    return f"{model.alias or model.name}: {message}"


def _to_float_array(column: pa.Array) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers
