"""Rows are streamed once each, whatever happens to the files meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import CorruptionError, UsageError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import LocalStore
from cvbatch.results.committed import open_output
from cvbatch.results.streaming import RowSelection, iter_rows
from tests.samples import commit, planned, started, write

ROWS = 40


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, CommitLog]:
    store, _ = planned(tmp_path, ROWS)
    log = started(store, ROWS)
    commit(log, 0, 20)
    commit(log, 20, ROWS)
    return store, log


def test_tables_are_bounded_and_have_the_wanted_columns(run: tuple[LocalStore, CommitLog]) -> None:
    selection = RowSelection(columns=["status", "source_removed"])
    tables = list(iter_rows(open_output(run[0].root), selection, batch_rows=7))
    assert [table.num_rows for table in tables] == [7, 7, 6, 7, 7, 6]
    assert {tuple(table.column_names) for table in tables} == {("status", "source_removed")}


def test_conditions_apply_to_what_is_stored_and_to_what_is_added(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    log.remove_rows([(0, 10)])
    opened = open_output(store.root)
    for where, rows in (
        ("row_id IN (3, 30)", [3, 30]),
        ("NOT source_removed AND row_id < 12", [10, 11]),
        ("source_removed AND row_id IN (3, 30)", [3]),
    ):
        tables = iter_rows(opened, RowSelection(columns=["row_id"], where=where))
        assert [row for table in tables for row in table["row_id"].to_pylist()] == rows
    with pytest.raises(UsageError, match="there is no column 'stauts'; there is status"):
        next(iter_rows(opened, RowSelection(columns=["stauts"])))


def test_a_file_that_is_replaced_while_it_is_read_gives_no_row_twice(run: tuple[LocalStore, CommitLog]) -> None:
    store, _ = run
    rows = iter_rows(open_output(store.root), RowSelection(columns=["row_id"]), batch_rows=5)
    read = [next(rows)["row_id"].to_pylist() for _ in range(5)]
    second = started(store, ROWS)
    old = [file for file in second.state.files.values() if file.ranges == ((20, ROWS),)]
    second.replace_files([old[0].path], write(second, 20, ROWS), [(20, ROWS)])
    store.delete_object(old[0].path)
    read += [table["row_id"].to_pylist() for table in rows]
    assert sorted(row for table in read for row in table) == list(range(ROWS))


def test_a_missing_file_is_corruption(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    store.delete_object(next(iter(log.state.files)))
    with pytest.raises(CorruptionError, match="a committed file is missing"):
        list(iter_rows(open_output(store.root), RowSelection()))
