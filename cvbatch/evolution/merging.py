"""Merging: columns of the run that stay, and columns that were computed beside it, become new data files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import CorruptionError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, read_data_file, write_data_files
from cvbatch.output.log_records import DataFile, RunState
from cvbatch.output.row_ranges import RowRanges
from cvbatch.output.store import Store, open_store
from cvbatch.planning.plan import open_run
from cvbatch.schema import (
    CONTENT_SHA256,
    DECODED_FIELDS,
    ERROR,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TRANSIENT,
    ERROR_TYPE,
    OK,
    ROW_ID,
    STATUS,
)
from cvbatch.storage.location import Location

_THREADS: Final = 2
_DECODED: Final = frozenset(column.name for column in DECODED_FIELDS)
_CHANGED: Final[Mapping[str, Any]] = {
    STATUS: ERROR,
    ERROR_STAGE: "fetch",
    ERROR_TYPE: "ChangedSinceRun",
    ERROR_MESSAGE: "the file is not the one that the other models have seen; cvbatch retry labels it by all models",
    ERROR_TRANSIENT: True,
}
"""What the row of a file says that was replaced between two models."""


@dataclass(frozen=True, slots=True)
class ComputedRows:
    """A finished run of the new models over the same rows."""

    store: Store
    files: Sequence[DataFile]
    models: Sequence[ModelSpec] = ()
    """Complete."""

    @staticmethod
    def from_output(output: Location) -> ComputedRows:
        """Open a finished run."""
        store, plan = open_run(output)
        return ComputedRows(store, list(CommitLog(store, plan.rows).state.files.values()), plan.models)

    def read_rows(self, row_ids: np.ndarray) -> pa.Table:
        """Read some rows, in the order of their ids.

        Args:
            row_ids: int64 (n,).

        Raises:
            CorruptionError: If a row is missing.
        """
        wanted = RowRanges((int(row), int(row) + 1) for row in np.unique(row_ids))
        files = [file for file in self.files if any(wanted.overlaps(*pair) for pair in file.ranges)]
        tables = [read_data_file(self.store, file) for file in files]
        if not tables:
            raise CorruptionError(f"{self.store.root}: rows are missing")
        table = pa.concat_tables(tables).sort_by(ROW_ID)
        known = table[ROW_ID].to_numpy()
        positions = np.searchsorted(known, row_ids)
        if not np.array_equal(known[np.minimum(positions, len(known) - 1)], row_ids):
            raise CorruptionError(f"{self.store.root}: rows are missing")
        return table.take(pa.array(positions))


@dataclass(frozen=True, slots=True)
class Merge:
    """How rows of a run and computed ones become new rows."""

    context: WriteContext
    """With the new schema."""
    copied_columns: Mapping[str, str]
    """New column to column of the run."""
    computed_columns: frozenset[str]
    computed: ComputedRows | None
    """None if nothing had to be computed."""
    removed: RowRanges = field(default_factory=RowRanges)
    """Rows whose image is no longer in the source: what is known of them stays, though it cannot be read again."""

    def write_files(self, state: RunState) -> Iterator[DataFile]:
        """Write new files for all rows of a run, in the order of the old ones.

        Raises:
            CorruptionError: If a file cannot be read.
            FencedError: If another attempt has taken over.
        """
        store = open_store(self.context.output)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="merge") as pool:
            for files in pool.map(partial(self._merge_file, store), list(state.files.values())):
                yield from files

    def _merge_file(self, store: Store, file: DataFile) -> tuple[DataFile, ...]:
        table = self.merge_rows(read_data_file(store, file))
        return write_data_files(self.context, [table]).files

    def merge_rows(self, old: pa.Table) -> pa.Table:
        """Merge rows of one file.

        A row is in error where it was, or where its image could not be read or predicted now, as if all models had run
        now. Where its content is not what the other models have seen, it is in error, too.

        Args:
            old: Rows of the run.

        Returns:
            Rows with the new schema.
        """
        if self.computed is None:
            return self._to_new_schema(old, None, np.zeros(old.num_rows, np.bool_))
        row_ids = old[ROW_ID].to_numpy()
        new = self.computed.read_rows(row_ids)
        may_fail = _equals(old[STATUS], OK) & ~self.removed.contains_rows(row_ids)
        failed = may_fail & _equals(new[STATUS], ERROR)
        is_other = pc.not_equal(old[CONTENT_SHA256], new[CONTENT_SHA256]).fill_null(False)
        changed = may_fail & ~failed & is_other.to_numpy()
        new = _with_values(new, _CHANGED, changed)
        return self._to_new_schema(old, new, failed | changed)

    def _to_new_schema(self, old: pa.Table, new: pa.Table | None, failed: np.ndarray) -> pa.Table:
        is_error = failed | _equals(old[STATUS], ERROR)
        columns = []
        for column in self.context.schema:
            if column.name in self.copied_columns:
                values = _without(old[self.copied_columns[column.name]], failed)
            elif column.name in self.computed_columns and new is not None:
                values = _without(new[column.name], is_error)
            elif column.name in _DECODED and new is not None:
                values = pc.if_else(pa.array(failed), *(_to_array(table[column.name]) for table in (new, old)))
            else:
                values = old[column.name]
            columns.append(values.cast(column.type))
        return pa.Table.from_arrays(columns, schema=self.context.schema)


def _equals(values: Any, other: Any) -> np.ndarray:
    """Element by element; false where one of them is null."""
    flags: np.ndarray = pc.equal(values, other).fill_null(False).to_numpy()
    return flags


def _to_array(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _without(values: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Values with nulls in some rows; nested types, too."""
    return values.take(pa.array(np.arange(len(rows)), mask=rows)) if rows.any() else values


def _with_values(table: pa.Table, values: Mapping[str, Any], rows: np.ndarray) -> pa.Table:
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        column = pc.if_else(pa.array(rows), pa.scalar(value, table[name].type), _to_array(table[name]))
        table = table.set_column(index, table.schema.field(index), column)
    return table
