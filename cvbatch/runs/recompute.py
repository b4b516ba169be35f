"""Recomputing committed rows: one log record replaces their files once all new files are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import pyarrow.compute as pc

from cvbatch.output.data_files import WriteResult, read_data_file
from cvbatch.output.log_records import DataFile, RunState
from cvbatch.output.row_ranges import RowRange, RowRanges, ranges_of_rows
from cvbatch.output.store import Store
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.passes import compute_missing_rows
from cvbatch.schema import ERROR, ERROR_TRANSIENT, ROW_ID, STATUS

_MAX_ROWS_AT_ONCE: Final = 4_096


def failed_rows(store: Store, state: RunState, *, transient_only: bool) -> RowRanges:
    """Find the committed rows that are errors.

    Args:
        store: The output.
        state: State of its log.
        transient_only: Only errors that another attempt may avoid.

    Raises:
        CorruptionError: If a file of error rows cannot be read.
    """
    failed = RowRanges()
    for file in state.files.values():
        if not file.errors:
            continue
        table = read_data_file(store, file, [ROW_ID, STATUS, ERROR_TRANSIENT])
        is_selected = pc.equal(table[STATUS], ERROR)
        if transient_only:
            is_selected = pc.and_(is_selected, table[ERROR_TRANSIENT].fill_null(False))
        failed.add_missing(ranges_of_rows(table[ROW_ID].filter(is_selected).to_numpy()))
    return failed


def recompute_rows(
    attempt: RunAttempt,
    rows: Iterable[RowRange],
    on_committed: Callable[[RunState], None],
    *,
    rows_at_once: int = _MAX_ROWS_AT_ONCE,
) -> None:
    """Recompute committed rows in batches of at most `rows_at_once`.

    Args:
        attempt: Holds the run.
        rows: Ranges of the rows to recompute.
        on_committed: Called with the new state after each replacement.
        rows_at_once: Most rows in one replacement; an interruption loses at most one batch.

    Raises:
        RunError: If the stages cannot continue, or too many rows are errors.
    """
    engine, log = attempt.engine, attempt.log
    remaining_rows = RowRanges(rows)
    while len(remaining_rows) and not engine.time_is_up:
        old_files, batch = _next_batch(log.state, remaining_rows, rows_at_once)
        if not old_files:
            return  # the remaining rows were never committed, so there is nothing to replace
        new_files, done = list[DataFile](), RowRanges()

        def missing(batch: RowRanges = batch, done: RowRanges = done) -> list[RowRange]:
            return [gap for row_range in batch for gap in done.gaps_within(*row_range)]

        for results in compute_missing_rows(engine, log, attempt.plan, missing):
            accepted = _accept_new_files(results, done)
            attempt.record_commit(results, accepted)
            new_files += accepted
        if missing():
            return
        copies = engine.copy_rows(old_files, batch, log.epoch)
        log.replace_files([file.path for file in old_files], [*new_files, *copies], batch)
        remaining_rows.remove_present(batch)
        on_committed(log.state)


def _next_batch(state: RunState, rows: RowRanges, max_rows: int) -> tuple[list[DataFile], RowRanges]:
    """The next files to replace, and the rows in them to recompute; at most `max_rows`."""
    files, batch = list[DataFile](), RowRanges()
    for file in state.files.values():
        overlaps = [overlap for row_range in file.ranges for overlap in rows.ranges_within(*row_range)]
        for low, high in overlaps:
            batch.add_range(low, min(high, low + max_rows - len(batch)))
            if len(batch) == max_rows:
                break
        if overlaps:
            files.append(file)
        if len(batch) == max_rows:
            break
    return files, batch


def _accept_new_files(results: Iterable[WriteResult], done: RowRanges) -> list[DataFile]:
    """Files without a row in `done`; adds their rows to `done`."""
    accepted = []
    for file in (file for result in results for file in result.files):
        if not any(done.overlaps(*row_range) for row_range in file.ranges):
            done.add_missing(file.ranges)
            accepted.append(file)
    return accepted
