"""Rows computed anew: their files are swapped for new ones, in one record, once all is there."""

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
    """The rows that are errors.

    Args:
        store: The output.
        state: Of its log.
        transient_only: Only those that may go better another time.

    Raises:
        CorruptionError: If a file of error rows cannot be read.
    """
    failed = RowRanges()
    for file in state.files.values():
        if not file.errors:
            continue
        table = read_data_file(store, file, [ROW_ID, STATUS, ERROR_TRANSIENT])
        wanted = pc.equal(table[STATUS], ERROR)
        if transient_only:
            wanted = pc.and_(wanted, table[ERROR_TRANSIENT].fill_null(False))
        failed.add_missing(ranges_of_rows(table[ROW_ID].filter(wanted).to_numpy()))
    return failed


def recompute_rows(
    session: RunAttempt,
    rows: Iterable[RowRange],
    committed: Callable[[RunState], None],
    *,
    rows_at_once: int = _MAX_ROWS_AT_ONCE,
) -> None:
    """Compute committed rows anew, some thousand at a time.

    Args:
        session: Holds the run.
        rows: Which.
        committed: Told of each replacement.
        rows_at_once: Most rows of one replacement; an interruption costs at most what is under way.

    Raises:
        RunError: If the stages cannot go on, or too many rows are errors.
    """
    engine, log = session.engine, session.log
    left = RowRanges(rows)
    while len(left) and not engine.time_is_up:
        files, again = _next_rows(log.state, left, rows_at_once)
        if not files:
            return  # what is left was never committed, and so cannot be replaced
        new, done = list[DataFile](), RowRanges()

        def missing(again: RowRanges = again, done: RowRanges = done) -> list[RowRange]:
            return [gap for pair in again for gap in done.gaps_within(*pair)]

        for written in compute_missing_rows(engine, log, session.plan, missing):
            fresh = _skip_done_rows(written, done)
            session.record_commit(written, fresh)
            new += fresh
        if missing():
            return
        kept = engine.copy_rows(files, again, log.epoch)
        log.replace_files([file.path for file in files], [*new, *kept], again)
        left.remove_present(again)
        committed(log.state)


def _next_rows(state: RunState, rows: RowRanges, most: int) -> tuple[list[DataFile], RowRanges]:
    """Files to replace, and which of their rows to compute anew."""
    files, again = list[DataFile](), RowRanges()
    for file in state.files.values():
        inside = [piece for pair in file.ranges for piece in rows.ranges_within(*pair)]
        for low, high in inside:
            again.add_range(low, min(high, low + most - len(again)))
            if len(again) == most:
                break
        if inside:
            files.append(file)
        if len(again) == most:
            break
    return files, again


def _skip_done_rows(written: Iterable[WriteResult], done: RowRanges) -> list[DataFile]:
    """Files none of whose rows is there yet; their rows are added to those that are."""
    fresh = []
    for file in (file for each in written for file in each.files):
        if not any(done.overlaps(*pair) for pair in file.ranges):
            done.add_missing(file.ranges)
            fresh.append(file)
    return fresh
