"""How unsure a model is of an image: the measures of each task, from what the predictions hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.results.certainty import Floats, box_entropies, box_margins, class_entropies, class_margins
from cvbatch.sampling.gradients import ClassWeights, weights_of_scores, weights_of_values
from cvbatch.sampling.list_values import Ids, first_of_each, flatten_list, list_matrix
from cvbatch.sampling.mask_edges import edge_shares
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION

SCORE: Final = "score"
"""Column of a measured table: how unsure the model is, from 0."""
LABEL_ID: Final = "label_id"
"""Column of a measured table: the class that the image counts for; -1 if the model names none."""
NO_LABEL: Final = -1

Columns: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementFilter:
    """Which boxes or classes count, and how the values of boxes become one for the image."""

    label_ids: Ids | None = None
    min_score: float | None = None
    """None for what the measure takes by default; that is 0 for most."""
    aggregate: str = "sum"
    """A key of `AGGREGATES`."""


_TOP: Final = ("top_label_ids", "top_scores")


def _weigh_values(candidates: pa.Table, model: ModelSpec) -> ClassWeights:
    return weights_of_values(candidates[LABEL_ID].to_numpy(), candidates[SCORE].to_numpy())


def _weigh_scores(candidates: pa.Table, model: ModelSpec) -> ClassWeights:
    return weights_of_scores(*(list_matrix(candidates, f"{model.alias}_{name}") for name in _TOP))


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of one task."""

    list_names: tuple[str, ...]
    """Short names of the columns of the model that it needs."""
    measure_rows: Callable[[pa.Table, ModelSpec, ElementFilter], Columns]
    """Takes rows that are ok; gives `SCORE`, `LABEL_ID` and what `describe` needs. A row with the label -1 and a
    score of 0 has nothing that passes the filter."""
    describe: Callable[[ModelSpec, Mapping[str, Any]], str]
    """The reason to label one row, from its values."""
    other_columns: tuple[str, ...] = ()
    """Columns of the image, or of another model, that it needs."""
    class_lists: tuple[str, ...] = ()
    """Short names of the columns of candidates that `weigh_classes` needs."""
    weigh_classes: Callable[[pa.Table, ModelSpec], ClassWeights] = field(default=_weigh_values)
    """The first factor of the gradient of each candidate."""


def _sum_of_boxes(values: Floats, rows: Ids, count: int) -> Floats:
    return np.bincount(rows, values, count).astype(np.float64)


def _mean_of_boxes(values: Floats, rows: Ids, count: int) -> Floats:
    means: Floats = _sum_of_boxes(values, rows, count) / np.maximum(np.bincount(rows, minlength=count), 1)
    return means


def _highest_of_boxes(values: Floats, rows: Ids, count: int) -> Floats:
    highest = np.zeros(count)
    np.maximum.at(highest, rows, values)
    return highest


AGGREGATES: Final[Mapping[str, Callable[[Floats, Ids, int], Floats]]] = {
    "sum": _sum_of_boxes,
    "max": _highest_of_boxes,
    "mean": _mean_of_boxes,
}
"""From values of boxes to one of the image (Brust et al. 2019); the sum, which they recommend, is first."""


def _measure_classes(compute: Callable[[Floats, ModelSpec], Floats]) -> Callable[..., Columns]:
    def measure_rows(rows: pa.Table, model: ModelSpec, elements: ElementFilter) -> Columns:
        top_ids = list_matrix(rows, f"{model.alias}_top_label_ids")
        top_scores = list_matrix(rows, f"{model.alias}_top_scores").astype(np.float64)
        second = min(1, top_scores.shape[1] - 1)
        counts = keep_passing(top_ids[:, 0], top_scores[:, 0], elements)
        return {
            SCORE: np.where(counts, compute(top_scores, model), 0.0),
            LABEL_ID: np.where(counts, top_ids[:, 0], NO_LABEL),
            "best_score": top_scores[:, 0],
            "second_id": top_ids[:, second],
            "second_score": top_scores[:, second],
        }

    return measure_rows


def _describe_classes(model: ModelSpec, row: Mapping[str, Any]) -> str:
    best = f"{model.categories[row[LABEL_ID]]} {row['best_score']:.2f}"
    if row["second_id"] == row[LABEL_ID]:
        return best
    return f"{best} or {model.categories[row['second_id']]} {row['second_score']:.2f}"


def _measure_boxes(compute: Callable[[Floats], Floats]) -> Callable[..., Columns]:
    def measure_rows(rows: pa.Table, model: ModelSpec, elements: ElementFilter) -> Columns:
        owners, ids = flatten_list(rows, f"{model.alias}_label_ids")
        scores = flatten_list(rows, f"{model.alias}_scores")[1].astype(np.float64)
        passing = keep_passing(ids, scores, elements)
        owners, ids, scores = owners[passing], ids[passing], scores[passing]
        values = compute(scores)
        leading = first_of_each(owners, -values.astype(np.float64))
        label_ids, lead_scores = np.full(rows.num_rows, NO_LABEL), np.zeros(rows.num_rows)
        label_ids[owners[leading]], lead_scores[owners[leading]] = ids[leading], scores[leading]
        return {
            SCORE: AGGREGATES[elements.aggregate](values, owners, rows.num_rows),
            LABEL_ID: label_ids,
            "lead_score": lead_scores,
            "boxes": np.bincount(owners, minlength=rows.num_rows),
        }

    return measure_rows


def _describe_boxes(model: ModelSpec, row: Mapping[str, Any]) -> str:
    if row[LABEL_ID] == NO_LABEL:
        return "no boxes"
    lead = f"{model.categories[row[LABEL_ID]]} {row['lead_score']:.2f}"
    return lead if row["boxes"] == 1 else f"{row['boxes']} boxes, the least certain {lead}"


def _measure_segments(rows: pa.Table, model: ModelSpec, elements: ElementFilter) -> Columns:
    owners, ids = flatten_list(rows, f"{model.alias}_label_ids")
    areas = flatten_list(rows, f"{model.alias}_areas")[1].astype(np.float64)
    edges = edge_shares(flatten_list(rows, f"{model.alias}_masks")[1], owners, rows)
    passing = keep_passing(ids, areas, elements)
    owners, ids, areas, edges = owners[passing], ids[passing], areas[passing], edges[passing]
    largest = first_of_each(owners, -areas)
    label_ids = np.full(rows.num_rows, NO_LABEL)
    label_ids[owners[largest]] = ids[largest]
    return {
        SCORE: _sum_of_boxes(edges, owners, rows.num_rows),
        LABEL_ID: label_ids,
        "segments": np.bincount(owners, minlength=rows.num_rows),
    }


def _describe_segments(model: ModelSpec, row: Mapping[str, Any]) -> str:
    classes = "1 class" if row["segments"] == 1 else f"{row['segments']} classes"
    return f"{classes}, with edges on {row[SCORE]:.1%} of the pixels"


def keep_passing(ids: Ids, scores: Floats, elements: ElementFilter) -> npt.NDArray[np.bool_]:
    """Which elements, or rows, pass the filter.

    Args:
        ids: Their label ids.
        scores: Their scores.
        elements: The filter.
    """
    passing: npt.NDArray[np.bool_] = scores >= (elements.min_score or 0.0)
    return passing if elements.label_ids is None else passing & np.isin(ids, elements.label_ids)


_BOXES: Final = ("label_ids", "scores")
_SEGMENTS: Final = ("label_ids", "areas", "masks")
MEASURES_OF_TASK: Final[Mapping[str, Mapping[str, Measure]]] = {
    CLASSIFICATION.name: {
        name: Measure(_TOP, _measure_classes(compute), _describe_classes, class_lists=_TOP, weigh_classes=_weigh_scores)
        for name, compute in (
            ("margin", lambda scores, model: 1 - class_margins(scores)),
            ("entropy", lambda scores, model: class_entropies(scores, _count_classes(model.categories))),
        )
    },
    DETECTION.name: {
        name: Measure(_BOXES, _measure_boxes(compute), _describe_boxes)
        for name, compute in (("margin", box_margins), ("entropy", box_entropies))
    },
    SEGMENTATION.name: {"edges": Measure(_SEGMENTS, _measure_segments, _describe_segments, (WIDTH, HEIGHT))},
}
"""The measures of each task with labels, by name; the usual one first."""


def _count_classes(categories: Sequence[str | None]) -> int:
    return sum(name is not None for name in categories)
