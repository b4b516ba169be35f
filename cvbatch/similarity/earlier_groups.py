"""What an earlier answer about duplicates says of the images that have not changed since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges
from cvbatch.results.answer_files import AnswerRecord
from cvbatch.schema import ROW_ID

Ids = npt.NDArray[np.int64]

GROUP: Final = "group"
"""Column of an answer: the row id of the representative."""
COSINE: Final = "cosine"
REPRESENTATIVE, MEMBER, NEW = 0, 1, 2
"""What is known of an image, in the order of preference."""


@dataclass(frozen=True, slots=True)
class EarlierGroups:
    """What is known of each image, (n,)."""

    kinds: npt.NDArray[np.int8]
    """`REPRESENTATIVE` (perhaps of itself only), `MEMBER` or `NEW`."""
    groups: Ids
    """Row id of the representative of members."""
    cosines: npt.NDArray[np.float32]
    """Cosine of members with it."""


def nothing_known(count: int) -> EarlierGroups:
    """What is known without an earlier answer."""
    return EarlierGroups(np.full(count, NEW, np.int8), np.zeros(count, np.int64), np.ones(count, np.float32))


def match_earlier_groups(
    answer: pa.Table, record: AnswerRecord, files: Iterable[DataFile], row_ids: Ids
) -> EarlierGroups:
    """Say what an earlier answer knows of some images.

    An image is known if it took part and its data file was read then: rows that are computed again come in new files.
    A member whose representative is gone is compared anew.

    Args:
        answer: The earlier answer.
        record: What it was made from.
        files: Data files that are committed now.
        row_ids: The images that take part now.
    """
    read_before, same_files = set(record.files), RowRanges()
    for file in files:
        if file.path in read_before:
            same_files.add_missing(file.ranges)
    is_known = same_files.contains_rows(row_ids) & RowRanges(record.rows).contains_rows(row_ids)
    result = nothing_known(len(row_ids))
    result.kinds[is_known] = REPRESENTATIVE
    grouped_rows, groups = (answer[name].to_numpy() for name in (ROW_ID, GROUP))
    is_member = grouped_rows != groups
    grouped_rows, groups = grouped_rows[is_member], groups[is_member]
    cosines = answer[COSINE].to_numpy()[is_member]
    order = np.argsort(grouped_rows)
    places = np.searchsorted(grouped_rows, row_ids, sorter=order)
    places = order[np.minimum(places, max(len(order) - 1, 0))] if len(order) else np.zeros(len(row_ids), np.int64)
    was_member = is_known & (grouped_rows[places] == row_ids) if len(order) else np.zeros(len(row_ids), np.bool_)
    result.groups[was_member], result.cosines[was_member] = groups[places[was_member]], cosines[places[was_member]]
    has_representative = np.isin(result.groups, row_ids[is_known])
    result.kinds[was_member] = np.where(has_representative[was_member], MEMBER, NEW)
    return result
