"""How much two models disagree about the objects in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.sampling.box_pairs import find_counterparts
from cvbatch.sampling.class_codes import share_codes
from cvbatch.sampling.list_values import Ids, Values, first_of_each, flatten_list
from cvbatch.sampling.measures import AGGREGATES, LABEL_ID, NO_LABEL, SCORE, Columns, ElementFilter

MIN_SCORE: Final = 0.3
"""Boxes with a lower score are not held against the other model, unless a least score is given."""
_LEAD: Final = "lead"
_LEAD_SCORE: Final = "lead_score"
_ALONE: Final = "alone"
_BOXES: Final = "boxes"


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The boxes of one model that count."""

    owners: Ids
    codes: Ids
    scores: Values
    corners: npt.NDArray[np.float32]


def compare_boxes(
    lists: tuple[str, ...], second: ModelSpec, rows: pa.Table, first: ModelSpec, elements: ElementFilter
) -> Columns:
    """The scores of boxes that the other model does not have: the surer these are, the more the models disagree.

    Args:
        lists: Short names of the columns of label ids, scores and boxes.
        second: The other model.
        rows: The rows, with these columns of both models.
        first: The model whose classes count for the filter.
        elements: Which boxes of both models count.
    """
    codes = share_codes(first, second)
    wanted = None if elements.label_ids is None else codes.first[elements.label_ids]
    least = MIN_SCORE if elements.min_score is None else elements.min_score
    one = _read_boxes(rows, [f"{first.alias}_{name}" for name in lists], codes.first, wanted, least)
    two = _read_boxes(rows, [f"{second.alias}_{name}" for name in lists], codes.second, wanted, least)
    one_keys, two_keys = (part.owners * len(codes.names) + part.codes for part in (one, two))
    is_alone = ~np.concatenate(find_counterparts(one_keys, one.corners, two_keys, two.corners))
    owners = np.concatenate([one.owners, two.owners])
    boxes, owners = np.bincount(owners, minlength=rows.num_rows), owners[is_alone]
    scores = np.concatenate([one.scores, two.scores])[is_alone]
    best = first_of_each(owners, -scores)
    lead, lead_scores = np.full(rows.num_rows, NO_LABEL), np.zeros(rows.num_rows)
    lead[owners[best]] = np.concatenate([one.codes, two.codes])[is_alone][best]
    lead_scores[owners[best]] = scores[best]
    ids_of_codes = np.full(len(codes.names) + 1, NO_LABEL)  # the last one is that of "no box"
    ids_of_codes[codes.first[::-1]] = np.arange(len(codes.first))[::-1]
    return {
        SCORE: AGGREGATES[elements.aggregate](scores, owners, rows.num_rows),
        LABEL_ID: ids_of_codes[lead],
        _LEAD: lead,
        _LEAD_SCORE: lead_scores,
        _ALONE: np.bincount(owners, minlength=rows.num_rows),
        _BOXES: boxes,
    }


def describe_boxes(second: ModelSpec, first: ModelSpec, row: Mapping[str, Any]) -> str:
    """How many boxes only one of the models has, and the surest of them."""
    if row[_LEAD] == NO_LABEL:
        return f"all {row[_BOXES]} boxes agree" if row[_BOXES] else "no boxes"
    name = share_codes(first, second).names[row[_LEAD]]
    boxes = f"{row[_ALONE]} of {row[_BOXES]} boxes from one model alone"
    return f"{boxes}, the surest {name} {row[_LEAD_SCORE]:.2f}"


def _read_boxes(rows: pa.Table, columns: list[str], codes: Ids, wanted: Ids | None, min_score: float) -> _Boxes:
    owners, ids = flatten_list(rows, columns[0])
    scores = flatten_list(rows, columns[1])[1].astype(np.float64)
    corners = pc.list_flatten(flatten_list(rows, columns[2])[1]).to_numpy(zero_copy_only=False).reshape(-1, 4)
    counts = scores >= min_score
    if wanted is not None:
        counts &= np.isin(codes[ids], wanted)
    return _Boxes(owners[counts], codes[ids][counts], scores[counts], corners[counts])
