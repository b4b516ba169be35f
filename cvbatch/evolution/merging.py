"""Merging: columns of the run that stay, and columns that were computed beside it, become new data files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

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
from cvbatch.schema import CONTENT_SHA256, ERROR, OK, ROW_ID, STATUS
from cvbatch.stages.joining import CHANGED_BETWEEN, DECODED_COLUMNS, choose_rows, where_equal, with_values, without_rows
from cvbatch.storage.location import Location

_THREADS: Final = 2


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
        may_fail = where_equal(old[STATUS], OK) & ~self.removed.contains_rows(row_ids)
        failed = may_fail & where_equal(new[STATUS], ERROR)
        is_other = pc.not_equal(old[CONTENT_SHA256], new[CONTENT_SHA256]).fill_null(False)
        changed = may_fail & ~failed & is_other.to_numpy()
        new = with_values(new, CHANGED_BETWEEN, changed)
        return self._to_new_schema(old, new, failed | changed)

    def _to_new_schema(self, old: pa.Table, new: pa.Table | None, failed: np.ndarray) -> pa.Table:
        is_error = failed | where_equal(old[STATUS], ERROR)
        columns = []
        for column in self.context.schema:
            if column.name in self.copied_columns:
                values = without_rows(old[self.copied_columns[column.name]], failed)
            elif column.name in self.computed_columns and new is not None:
                values = without_rows(new[column.name], is_error)
            elif column.name in DECODED_COLUMNS and new is not None:
                values = choose_rows(failed, new[column.name], old[column.name])
            else:
                values = old[column.name]
            columns.append(values.cast(column.type))
        return pa.Table.from_arrays(columns, schema=self.context.schema)
