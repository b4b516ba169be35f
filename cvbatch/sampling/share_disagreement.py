"""How much two models disagree that give shares to classes: of a score of 1, or of the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.sampling.class_codes import share_codes
from cvbatch.sampling.list_values import Ids, Values, first_of_each, flatten_list
from cvbatch.sampling.measures import LABEL_ID, NO_LABEL, SCORE, Columns, ElementFilter, keep_passing

_FIRST_SHARE: Final = "first_share"
_SECOND_ID: Final = "second_id"
_SECOND_SHARE: Final = "second_share"


@dataclass(frozen=True, slots=True)
class _Shares:
    """What a model gives to the classes of each image."""

    keys: Ids
    """Image × number of classes + class; ascending, each once."""
    shares: Values
    """For each key."""
    lead_ids: Ids
    """(rows,), the label id with the largest share; -1 if there is none."""
    lead_shares: Values
    """(rows,)"""


def compare_shares(
    lists: tuple[str, ...], second: ModelSpec, rows: pa.Table, first: ModelSpec, elements: ElementFilter
) -> Columns:
    """Total variation distance: the share that the models give to different classes.

    What is missing to a sum of 1 counts as agreed, as far as both lack it.

    Args:
        lists: Short names of the columns of label ids and of shares.
        second: The other model.
        rows: The rows, with these columns of both models.
        first: The model whose classes count for the filter.
        elements: The filter; it is about the best class.
    """
    codes, count = share_codes(first, second), rows.num_rows
    one = _read_shares(rows, [f"{first.alias}_{name}" for name in lists], codes.first, len(codes.names))
    two = _read_shares(rows, [f"{second.alias}_{name}" for name in lists], codes.second, len(codes.names))
    _, in_one, in_two = np.intersect1d(one.keys, two.keys, assume_unique=True, return_indices=True)
    common = np.minimum(one.shares[in_one], two.shares[in_two])
    agreed = np.bincount(one.keys[in_one] // len(codes.names), common, count)
    missing = [np.maximum(1 - np.bincount(part.keys // len(codes.names), part.shares, count), 0) for part in (one, two)]
    passing = keep_passing(one.lead_ids, one.lead_shares, elements)
    return {
        SCORE: np.where(passing, np.clip(1 - agreed - np.minimum(*missing), 0, 1), 0.0),
        LABEL_ID: np.where(passing, one.lead_ids, NO_LABEL),
        _FIRST_SHARE: one.lead_shares,
        _SECOND_ID: two.lead_ids,
        _SECOND_SHARE: two.lead_shares,
    }


def describe_shares(second: ModelSpec, first: ModelSpec, row: Mapping[str, Any]) -> str:
    """The best class of each model."""
    answers = ((first, row[LABEL_ID], row[_FIRST_SHARE]), (second, row[_SECOND_ID], row[_SECOND_SHARE]))
    return " against ".join(
        "nothing" if label_id == NO_LABEL else f"{model.categories[label_id]} {share:.2f}"
        for model, label_id, share in answers
    )


def _read_shares(rows: pa.Table, columns: list[str], codes: Ids, classes: int) -> _Shares:
    owners, ids = flatten_list(rows, columns[0])
    shares = flatten_list(rows, columns[1])[1].astype(np.float64)
    best = first_of_each(owners, -shares)
    lead_ids, lead_shares = np.full(rows.num_rows, NO_LABEL), np.zeros(rows.num_rows)
    lead_ids[owners[best]], lead_shares[owners[best]] = ids[best], shares[best]
    keys, positions = np.unique(owners * classes + codes[ids], return_inverse=True)
    return _Shares(keys, np.bincount(positions, shares, len(keys)).astype(np.float64), lead_ids, lead_shares)
