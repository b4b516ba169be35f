"""Joining: rows that were predicted by some models, and the same rows by others, become rows with all columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import CorruptionError, RowError
from cvbatch.output.data_files import CHANGED
from cvbatch.schema import (
    CONTENT_SHA256,
    DECODED_FIELDS,
    ERROR,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TRANSIENT,
    ERROR_TYPE,
    MEASURES,
    ROW_ID,
    STATUS,
    WORKER,
)

DECODED_COLUMNS: Final = frozenset(column.name for column in DECODED_FIELDS)
CHANGED_BETWEEN: Final[Mapping[str, Any]] = {
    STATUS: ERROR,
    ERROR_STAGE: "fetch",
    ERROR_TYPE: "ChangedSinceRun",
    ERROR_MESSAGE: "the file is not the one that the other models have seen; cvbatch retry labels it by all models",
    ERROR_TRANSIENT: True,
}
"""What the row of a file says that was replaced between two models."""


def join_passes(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the rows of one unit, as each pass of the models has predicted them.

    A row is in error where it is in any pass, as if all models had run at once, and where a pass has seen another file.

    Args:
        tables: Outputs of the predict stage for the same rows, in any order of the rows.

    Returns:
        Rows in the order of their ids, with the columns of all models.

    Raises:
        CorruptionError: If the tables have different rows.
    """
    joined, *others = (table.sort_by(ROW_ID) for table in tables)
    for other in others:
        if not joined[ROW_ID].equals(other[ROW_ID]):
            raise CorruptionError("the passes of a unit have different rows")
        joined = _join_two(joined, other)
    return joined


def join_answers(answers: Sequence[pa.Table | RowError]) -> pa.Table | RowError:
    """Join what the passes of one image have given; the first error counts."""
    tables = [answer for answer in answers if isinstance(answer, pa.Table)]
    return next((answer for answer in answers if isinstance(answer, RowError)), None) or join_passes(tables)


def _join_two(first: pa.Table, second: pa.Table) -> pa.Table:
    was_failed = where_equal(first[STATUS], ERROR)
    is_failed = where_equal(second[STATUS], ERROR)
    is_other = pc.not_equal(first[CONTENT_SHA256], second[CONTENT_SHA256]).fill_null(False).to_numpy()
    changed = is_other & ~was_failed & ~is_failed
    second = with_values(second, CHANGED_BETWEEN, changed)
    newly_failed = ~was_failed & (is_failed | changed)
    common = set(first.column_names) & set(second.column_names)
    columns = {name: _joined_column(name, first, second, newly_failed, common) for name in first.column_names}
    for name in second.column_names:
        if name not in common:
            columns[name] = without_rows(second[name], was_failed | newly_failed)
    return pa.table(columns)


def _joined_column(name: str, first: pa.Table, second: pa.Table, newly_failed: np.ndarray, common: set[str]) -> Any:
    if name not in common:
        return without_rows(first[name], newly_failed)
    if name.startswith(MEASURES) and name != f"{MEASURES}{CHANGED}":
        return pc.add(first[name], second[name])
    if name == WORKER:
        return second[name]
    if name in DECODED_COLUMNS:
        return choose_rows(newly_failed, second[name], first[name])
    return first[name]


def where_equal(values: Any, other: Any) -> np.ndarray:
    """Return element by element whether values are equal; false where one of them is null."""
    flags: np.ndarray = pc.equal(values, other).fill_null(False).to_numpy()
    return flags


def choose_rows(rows: np.ndarray, values: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.Array:
    """Return values in some rows, and others elsewhere.

    Args:
        rows: bool (n,).
        values: For these rows.
        others: For all other rows.
    """
    return pc.if_else(pa.array(rows), _to_array(values), _to_array(others))


def without_rows(values: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Return values with nulls in some rows; nested types, too."""
    return values.take(pa.array(np.arange(len(rows)), mask=rows)) if rows.any() else values


def with_values(table: pa.Table, values: Mapping[str, Any], rows: np.ndarray) -> pa.Table:
    """Return a table with values, by column, in some rows."""
    if not rows.any():
        return table
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        column = pc.if_else(pa.array(rows), pa.scalar(value, table[name].type), _to_array(table[name]))
        table = table.set_column(index, table.schema.field(index), column)
    return table


def _to_array(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
