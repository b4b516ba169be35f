"""Two drivers on one store: which one may write, and how requests without a response end."""

from __future__ import annotations

import contextlib
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.errors import CorruptionError, FencedError, OutputError, RunError
from cvbatch.output.commit_log import LOG_FOLDER, CommitLog, last_record, newest_record_name, record_name
from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore, Store
from tests.output.failing import Failing, Overtaken


def file(log: CommitLog, low: int, high: int, letter: str = "a", epoch: int | None = None) -> DataFile:
    number = log.epoch if epoch is None else epoch
    return DataFile(f"data/e{number:08d}-{letter * 31}{low % 16:x}.parquet", 10, ((low, high),))


def records(store: Store) -> list[dict[str, Any]]:
    return [json.loads(store.read_object(name)) for name in store.list_sizes(LOG_FOLDER)]


def kinds(store: Store) -> list[str]:
    return [f"{record['type']} {record['epoch']}" for record in records(store)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def opened(store: Store, planned: int = 10) -> CommitLog:
    log = CommitLog(store, planned)
    log.open_epoch()
    return log


def test_a_whole_run(store: LocalStore) -> None:
    log = opened(store)
    assert log.commit_files([file(log, 0, 4), file(log, 4, 10)]) == list(log.state.files.values())
    log.extend_plan([{"path": "p", "first_row_id": 10, "rows": 2}], complete=True)
    log.commit_files([file(log, 10, 12)])
    assert log.append_final() == 4
    assert kinds(store) == ["open 1", "commit 1", "extend 1", "commit 1", "final 1"]
    assert len({record["nonce"] for record in records(store)}) == 5
    again = CommitLog(store, 10)
    assert again.state.files == log.state.files
    assert again.state.is_final


def test_an_empty_log(store: LocalStore) -> None:
    assert (newest_record_name(store), last_record(store)) == (None, None)
    with pytest.raises(RunError, match="not open"):
        CommitLog(store, 10).commit_files([])


def test_names_sort_as_numbers(store: LocalStore) -> None:
    log = opened(store, 1000)
    for row in range(12):
        log.commit_files([file(log, row, row + 1)])
    for known in (None, *map(record_name, range(13))):
        assert newest_record_name(store, known) == record_name(12)
        newest = last_record(store, known)
        assert newest == (record_name(12), records(store)[-1])
    assert len(CommitLog(store, 1000).state.accepted) == 12


def test_a_log_that_another_run_has_started_again(store: LocalStore) -> None:
    opened(store, 10)
    assert last_record(store, record_name(7)) == (record_name(0), records(store)[0])


def test_files_are_accepted_one_by_one(store: LocalStore) -> None:
    log = opened(store)
    first, late, beyond = file(log, 0, 4), file(log, 3, 5, "b"), file(log, 8, 11)
    older = file(log, 6, 8, epoch=0)
    foreign = DataFile("data/x.parquet", 1, ((6, 8),))
    assert log.commit_files([first, late, beyond, older, foreign]) == [first]
    assert log.commit_files([late]) == []
    assert kinds(store) == ["open 1", "commit 1"], "a commit of nothing is not written"


def test_threads_of_a_driver_do_not_fence_each_other_off(store: LocalStore) -> None:
    log = opened(store)
    with ThreadPoolExecutor(5) as pool:
        accepted = list(pool.map(lambda row: log.commit_files([file(log, row, row + 1)]), range(10)))
    assert [len(files) for files in accepted] == [1] * 10
    assert len(CommitLog(store, 10).state.accepted) == 10


def test_an_older_driver_is_fenced_off(store: LocalStore) -> None:
    old = opened(store)
    old.commit_files([file(old, 0, 2)])
    new = opened(store)
    assert new.epoch == 2
    orphan = file(old, 2, 4)
    for _ in range(2):  # and stays so, also once it has read the newer record
        with pytest.raises(FencedError, match="another attempt has taken over"):
            old.commit_files([orphan])
    with pytest.raises(FencedError):
        old.extend_plan([], complete=True)
    assert new.commit_files([orphan]) == []
    new.commit_files([file(new, 2, 10)])
    assert kinds(store) == ["open 1", "commit 1", "open 2", "commit 2"]


def test_a_driver_that_has_read_a_newer_open_record_writes_no_more(store: LocalStore) -> None:
    old = opened(store)
    opened(store)
    old.refresh()
    with pytest.raises(FencedError):
        old.commit_files([file(old, 0, 2)])
    assert kinds(store) == ["open 1", "open 2"]


def test_after_final_nothing_is_written(store: LocalStore) -> None:
    log = opened(store, 2)
    log.commit_files([file(log, 0, 2)])
    log.append_final()
    with pytest.raises(FencedError):
        log.extend_plan([], complete=True)
    assert kinds(store)[-1] == "final 1"


def test_a_final_with_rows_missing_is_never_written(store: LocalStore) -> None:
    log = opened(store)
    log.commit_files([file(log, 0, 9)])
    with pytest.raises(RunError, match="1 rows are missing"):
        log.append_final()
    assert kinds(store) == ["open 1", "commit 1"]


def test_a_commit_right_before_an_open_record_is_applied(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    old = opened(store)
    between = Overtaken(str(tmp_path), "create", record_name(1), lambda: old.commit_files([file(old, 0, 2)]))
    new = opened(between)
    assert kinds(store) == ["open 1", "commit 1", "open 2"]
    assert len(new.state.accepted) == 2


def test_of_two_drivers_that_open_at_once_one_fails(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    winners: list[CommitLog] = []
    between = Overtaken(str(tmp_path), "create", record_name(0), lambda: winners.append(opened(store)))
    with pytest.raises(OutputError, match="another attempt has opened this run at the same time"):
        opened(between)
    winners[0].commit_files([file(winners[0], 0, 2)])
    assert kinds(store) == ["open 1", "commit 1"]


def test_an_open_record_that_is_overtaken_at_once_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(str(tmp_path))
    late = Failing(str(tmp_path), failures=1, takes_effect=True, before_retry=lambda: opened(store))
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    with pytest.raises(OutputError, match="another attempt has opened this run at the same time"):
        opened(late)
    assert kinds(store) == ["open 1", "open 2"]


@pytest.mark.parametrize("takes_effect", [True, False])
@pytest.mark.parametrize("failures", [1, 3])
def test_requests_without_a_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_effect: bool, failures: int
) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    store = Failing(str(tmp_path), failures=failures, takes_effect=takes_effect)
    log = opened(store)
    store.failures = failures
    accepted = log.commit_files([file(log, 0, 10)])
    store.failures = failures
    log.append_final()
    assert len(accepted) == 1
    assert kinds(store) == ["open 1", "commit 1", "final 1"]
    assert CommitLog(store, 10).state.is_final


def test_a_request_that_was_lost_and_then_fenced_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(str(tmp_path))
    slow = Failing(str(tmp_path), failures=0, takes_effect=False, before_retry=lambda: opened(store))
    old = opened(slow)
    slow.failures = 1
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    with pytest.raises(FencedError):
        old.commit_files([file(old, 0, 2)])
    assert kinds(store) == ["open 1", "open 2"]


def test_a_hole_in_the_log(store: LocalStore) -> None:
    log = opened(store)
    log.commit_files([file(log, 0, 2)])
    log.commit_files([file(log, 2, 4)])
    store.delete_object(record_name(1))
    with pytest.raises(CorruptionError, match=r"0000000001\.json is missing from the log"):
        CommitLog(store, 10)


def test_a_record_that_appears_during_a_listing_is_no_hole(tmp_path: Path) -> None:
    """A listing may contain a new record and miss the one before it, although both exist."""

    class Patchy(LocalStore):
        def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
            sizes = super().list_sizes(folder, after)
            sizes.pop(record_name(1), None)
            return sizes

    log = opened(LocalStore(str(tmp_path)))
    log.commit_files([file(log, 0, 2)])
    log.commit_files([file(log, 2, 4)])
    assert len(CommitLog(Patchy(str(tmp_path)), 10).state.accepted) == 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ocxrf"), st.integers(0, 9), st.integers(1, 4)), max_size=25)
)
def test_three_drivers_in_any_order_never_commit_a_row_twice(steps: list[tuple[int, str, int, int]]) -> None:
    """Open, commit, extend, read and finish in any order; a refused request does not change the log."""
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder)
        drivers = [CommitLog(store, 10) for _ in range(3)]
        for number, (driver_index, step, low, length) in enumerate(steps):
            log = drivers[driver_index]
            with contextlib.suppress(RunError, OutputError):
                match step:
                    case "o":
                        log.open_epoch()
                    case "c":
                        name = f"data/e{log.epoch:08d}-{number:032x}.parquet"
                        log.commit_files([DataFile(name, 1, ((low, low + length),))])
                    case "x":
                        part = {"path": "p", "first_row_id": log.state.planned, "rows": length}
                        log.extend_plan([part], complete=True)
                    case "r":
                        log.refresh()
                    case "f":
                        log.append_final()
        state = CommitLog(store, 10).state  # the fold itself refuses what the protocol forbids
        rows = [row for file in state.files.values() for low, high in file.ranges for row in range(low, high)]
        assert len(rows) == len(set(rows)) == len(state.accepted)
