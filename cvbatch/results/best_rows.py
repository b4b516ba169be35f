"""The best rows of a stream, or some by chance, in memory for those alone."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.schema import ROW_ID

_PRIORITY: Final = "_priority"
_GROUP: Final = "_group"
_GROWTH: Final = 2
"""Rows are dropped when there are this many times as many as are kept."""


def random_numbers(row_ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each row that depends on its id and the seed alone, not on the order of files.

    The finaliser of splitmix64 (Steele et al. 2014).

    Args:
        row_ids: (rows,)
        seed: Other seeds give other numbers.

    Returns:
        (rows,), uniform in the open interval (0, 1).
    """
    state = row_ids.astype(np.uint64) + np.uint64(np.random.default_rng(seed).integers(1 << 63))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    numbers: npt.NDArray[np.float64] = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)
    return numbers


class BestRows:
    """Keeps the rows of highest priority.

    Args:
        limit: Number of rows to keep.
        group_share: Rows of one group that come before the next rows of all others; None if there are no groups.
    """

    def __init__(self, limit: int, group_share: int | None = None) -> None:
        self._limit, self._group_share = limit, group_share
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add_rows(
        self, table: pa.Table, priorities: npt.NDArray[np.float64], groups: npt.NDArray[Any] | None = None
    ) -> None:
        """Add rows.

        Args:
            table: Has `row_id`.
            priorities: (rows,)
            groups: (rows,), whole numbers, with a `group_share` only.
        """
        table = table.append_column(_PRIORITY, pa.array(priorities))
        if groups is not None:
            table = table.append_column(_GROUP, pa.array(groups))
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows > _GROWTH * self._limit:
            self._drop_rows()

    def finish(self) -> pa.Table | None:
        """The rows that were kept, best first; equal ones by `row_id`. None if no table was added."""
        if not self._tables:
            return None
        self._drop_rows()
        (table,) = self._tables
        return table.drop_columns([name for name in (_PRIORITY, _GROUP) if name in table.column_names])

    def _drop_rows(self) -> None:
        table = pa.concat_tables(self._tables)
        best_first = np.lexsort((table[ROW_ID].to_numpy(), -table[_PRIORITY].to_numpy()))
        if self._group_share is not None and _GROUP in table.column_names:
            ranks = rank_within_groups(table[_GROUP].to_numpy()[best_first])
            best_first = best_first[np.argsort(ranks // self._group_share, kind="stable")]
        kept = table.take(best_first[: self._limit]).combine_chunks()
        self._tables, self._rows = [kept], kept.num_rows


def rank_within_groups(groups: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many rows of the same group come before each row.

    Args:
        groups: (rows,)
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(groups) else order
    lengths = np.diff(np.append(starts, len(groups)))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return ranks
