"""Files that are replaced, and images that change, disappear and come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvbatch.errors import CorruptionError, FencedError, RunError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import LocalStore
from tests.output.test_commit_log import file, kinds, opened, records


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def test_files_are_replaced_by_files_with_the_same_rows(store: LocalStore) -> None:
    old = opened(store)
    removed = old.commit_files([file(old, 0, 4), file(old, 4, 6), file(old, 6, 10)])[:2]
    log = opened(store)
    added = [file(log, 0, 3, "b"), file(log, 3, 6, "b")]
    log.replace_files([data_file.path for data_file in removed], added, [(1, 2), (4, 5)])
    assert kinds(store)[-1] == "replace 2"
    record = records(store)[-1]
    assert record["remove"] == [data_file.path for data_file in removed]
    assert record["add"] == [data_file.to_json() for data_file in added]
    assert record["computed"] == [[1, 2], [4, 5]]
    again = CommitLog(store, 10)
    assert list(again.state.files) == [data_file.path for data_file in (file(log, 6, 10, epoch=1), *added)]
    assert again.state == log.state


@pytest.mark.parametrize(
    "rows", [[], [(0, 3)], [(0, 5)], [(0, 2), (3, 4)], [(0, 3), (2, 4)], [(0, 4), (0, 4)], [(4, 8)]], ids=str
)
def test_a_replacement_with_other_rows_is_refused_and_not_written(store: LocalStore, rows: list[RowRange]) -> None:
    log = opened(store)
    [old] = log.commit_files([file(log, 0, 4)])
    log.commit_files([file(log, 8, 10)])
    before = json.dumps(log.state.to_json())
    with pytest.raises(CorruptionError):
        log.replace_files([old.path], [file(log, *pair, letter) for pair, letter in zip(rows, "bc", strict=False)], [])
    assert kinds(store) == ["open 1", "commit 1", "commit 1"]
    assert json.dumps(log.state.to_json()) == before
    log.replace_files([old.path], [file(log, 0, 4, "b")], [])  # and the log goes on


def test_a_replacement_of_or_by_the_wrong_files_is_refused_and_not_written(store: LocalStore) -> None:
    old = opened(store)
    [taken, _] = old.commit_files([file(old, 0, 4), file(old, 4, 8)])
    late = file(old, 0, 4, "b")
    log = opened(store)
    good = file(log, 0, 4)
    for remove, add in [
        ([file(log, 0, 4).path], good),
        ([taken.path, taken.path], good),
        ([taken.path], late),
        ([taken.path], taken),
    ]:
        with pytest.raises(CorruptionError):
            log.replace_files(remove, [add], [])
    assert len(records(store)) == 3


def test_an_older_driver_replaces_nothing(store: LocalStore) -> None:
    old = opened(store)
    [taken] = old.commit_files([file(old, 0, 4)])
    opened(store)
    for _ in range(2):
        with pytest.raises(FencedError):
            old.replace_files([taken.path], [file(old, 0, 4, "b")], [])
    with pytest.raises(FencedError):
        old.remove_rows([(0, 1)])
    assert kinds(store) == ["open 1", "commit 1", "open 2"]


def test_a_run_with_changed_images_cannot_finish(store: LocalStore) -> None:
    log = opened(store)
    [old] = log.commit_files([file(log, 0, 10)])
    part = {"path": "p", "rows": 2, "ranges": [[3, 4], [6, 7]]}
    log.extend_plan([], complete=True, changed=[part])
    assert records(store)[-1]["changed"] == CommitLog(store, 10).state.changed == [part]
    log.replace_files([old.path], [file(log, 0, 10, "b")], [(3, 5)])
    with pytest.raises(RunError, match="1 rows are missing"):
        log.append_final()
    log.replace_files([file(log, 0, 10, "b").path], [file(log, 0, 10, "c")], [(6, 7)])
    log.append_final()
    assert kinds(store)[-1] == "final 1"


def test_images_that_disappear_and_come_back(store: LocalStore) -> None:
    log = opened(store)
    log.remove_rows([(2, 4), (6, 8)])
    log.remove_rows([(0, 1)], [(3, 4), (6, 8)])
    assert list(log.state.removed) == list(CommitLog(store, 10).state.removed) == [(0, 1), (2, 3)]
    assert kinds(store) == ["open 1", "removed 1", "removed 1"]
