"""The rows of a run as a stream of Arrow tables, in memory that does not grow with the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.output.log_records import DataFile
from cvbatch.output.row_ranges import RowRanges, ranges_of_rows
from cvbatch.planning.moved import apply_moves_to_rows
from cvbatch.results.committed import CommittedFiles, OpenedOutput, load_committed, newer_files
from cvbatch.results.data_frame import MemoryBudget
from cvbatch.results.where import Where, check_names, parse_where
from cvbatch.schema import IMAGE_URI, ROW_ID, SOURCE_REMOVED

BATCH_ROWS: Final = 8192
"""Rows of a table by default. A row takes from a few hundred bytes to tens of kilobytes, with masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSelection:
    """Which rows and columns to read."""

    columns: Sequence[str] | None = None
    """Columns of the predictions, and `source_removed`; None for all of them."""
    where: Where = None
    """Only rows for which this holds."""


def iter_rows(
    opened: OpenedOutput,
    selection: RowSelection,
    *,
    batch_rows: int = BATCH_ROWS,
    committed: CommittedFiles | None = None,
) -> Iterator[pa.Table]:
    """Read the committed rows, file by file.

    If a file is replaced meanwhile, its rows that were not read yet come from the new file, so no row comes twice.

    Args:
        opened: The run.
        selection: Rows and columns.
        batch_rows: Most rows of a table.
        committed: Files to read; None for those that are committed when reading begins.

    Yields:
        Tables with the wanted columns, never empty; in the order of the plan, except rows that were labelled again.

    Raises:
        CorruptionError: If a committed file is missing.
        UsageError: If `selection.where` is invalid.
    """
    reader = _RowReader(opened, selection)
    committed = opened.committed_files() if committed is None else committed
    files, finished_rows = deque(committed.files), RowRanges()
    while files:
        file, row_ids = files.popleft(), []
        try:
            for table in reader.iter_file(file, committed, finished_rows, batch_rows):
                row_ids.append(table[ROW_ID].to_numpy())
                yield reader.select_columns(table)
        except FileNotFoundError as error:
            committed = newer_files(opened, committed, error)
            for ids in row_ids:
                finished_rows.add_missing(ranges_of_rows(ids))
            files = deque(file for file in committed.files if _has_other_rows(file, finished_rows))
        else:
            finished_rows.add_missing(file.ranges)


def read_rows(opened: OpenedOutput, selection: RowSelection, budget: MemoryBudget | None = None) -> pa.Table:
    """Read the committed rows at once, in the order of the plan.

    Args:
        opened: The run.
        selection: Rows and columns.
        budget: Refuses what does not fit into memory as a frame.

    Raises:
        CorruptionError: If a committed file is missing.
        OutputError: If the rows do not fit.
        UsageError: If the selection is invalid.
    """
    reader = _RowReader(opened, selection)

    def load(committed: CommittedFiles) -> pa.Table:
        scanner, batches = reader.scan(committed.files, committed), []
        for batch in scanner.to_batches():
            if budget is not None:
                budget.add_batch(batch)
            batches.append(batch)
        return reader.finish_table(pa.Table.from_batches(batches, scanner.projected_schema), committed)

    return reader.select_columns(load_committed(opened, load).sort_by(ROW_ID))


class _RowReader:
    """Reads data files and adds what is not stored in them: current locations, and which images were removed."""

    def __init__(self, opened: OpenedOutput, selection: RowSelection) -> None:
        self._opened = opened
        self._columns = selection.columns
        check_names("column", () if self._columns is None else self._columns, [*opened.schema.names, SOURCE_REMOVED])
        self._where = parse_where(selection.where, opened.schema.append(pa.field(SOURCE_REMOVED, pa.bool_())))

    def scan(self, files: Sequence[DataFile], committed: CommittedFiles, batch_rows: int = 131_072) -> pads.Scanner:
        """Scan some files; the condition is pushed down to Parquet if it is about stored values only."""
        is_late = self._is_where_late(committed)
        return self._opened.open_files(files).scanner(
            columns=None if is_late else self._stored_columns(),
            filter=None if is_late else self._where,
            batch_size=batch_rows,
            batch_readahead=2,
            fragment_readahead=2,
        )

    def iter_file(
        self, file: DataFile, committed: CommittedFiles, finished_rows: RowRanges, batch_rows: int
    ) -> Iterator[pa.Table]:
        """Read one file without the rows that were read before."""
        is_partly_read = any(finished_rows.overlaps(*pair) for pair in file.ranges)
        for batch in self.scan([file], committed, batch_rows).to_batches():
            table = self.finish_table(pa.Table.from_batches([batch]), committed)
            if is_partly_read:
                table = table.filter(pa.array(~finished_rows.contains_rows(table[ROW_ID].to_numpy())))
            if table.num_rows:
                yield table

    def finish_table(self, table: pa.Table, committed: CommittedFiles) -> pa.Table:
        """Put in current locations, add `source_removed`, and apply a condition that is about these."""
        if committed.moves and IMAGE_URI in table.column_names:
            table = apply_moves_to_rows(self._opened.store, table, committed.moves)
        is_removed = RowRanges(committed.removed).contains_rows(table[ROW_ID].to_numpy())
        table = table.append_column(SOURCE_REMOVED, pa.array(is_removed))
        return table.filter(self._where) if self._is_where_late(committed) else table

    def select_columns(self, table: pa.Table) -> pa.Table:
        """The columns that are wanted, in their order."""
        return table if self._columns is None else table.select(list(self._columns))

    def _stored_columns(self) -> list[str] | None:
        if self._columns is None:
            return None
        return list(dict.fromkeys(name for name in (*self._columns, ROW_ID) if name != SOURCE_REMOVED))

    def _is_where_late(self, committed: CommittedFiles) -> bool:
        """Whether the condition is about what is not stored; an expression tells its columns only as text."""
        text = "" if self._where is None else str(self._where)
        return SOURCE_REMOVED in text or (bool(committed.moves) and IMAGE_URI in text)


def _has_other_rows(file: DataFile, finished_rows: RowRanges) -> bool:
    return any(finished_rows.gaps_within(low, high) for low, high in file.ranges)
