"""A long log opens from a checkpoint, with the same state as from all its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import FencedError, RunError
from cvbatch.output.checkpoints import CHECKPOINT_RECORDS, load_checkpoint, save_checkpoint
from cvbatch.output.commit_log import LOG_FOLDER, CommitLog, record_name
from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore, Store
from tests.output.failing import Failing, Overtaken
from tests.samples import started

SNAPSHOTS = "_cvbatch/snapshots"
ROWS = 1_000
EVERY = CHECKPOINT_RECORDS.default


class Counting(LocalStore):
    """Records which objects are read."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.names: list[str] = []

    def read_object(self, name: str) -> bytes:
        self.names.append(name)
        return super().read_object(name)


class Full(LocalStore):
    """Fails to write checkpoints."""

    def create_object(self, name: str, data: bytes) -> bool:
        if name.startswith(SNAPSHOTS):
            raise RunError("disk full")
        return super().create_object(name, data)


def committed(log: CommitLog, rows: int) -> None:
    """Commit a number of further rows one by one."""
    first = len(log.state.accepted)
    for row in range(first, first + rows):
        log.commit_files(
            [DataFile(f"data/e{log.epoch:08d}-{row:032x}.parquet", 1, ((row, row + 1),), {"Odd": row % 2})]
        )


def checkpoints(store: Store) -> list[int]:
    return [int(Path(name).stem) for name in store.list_sizes(SNAPSHOTS)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHECKPOINT_RECORDS", "4")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def test_a_long_log_opens_from_a_checkpoint(store: LocalStore) -> None:
    log = started(store, ROWS)
    committed(log, EVERY - 2)
    assert checkpoints(store) == []
    committed(log, 1)
    assert checkpoints(store) == [EVERY]
    committed(log, 9)
    counting = Counting(store.root)
    short = CommitLog(counting, ROWS)
    assert counting.names == [f"{SNAPSHOTS}/{EVERY:010d}.json", *map(record_name, range(EVERY, EVERY + 9))]
    assert short.state == log.state == CommitLog(store, ROWS, whole=True).state
    assert list(short.state.files) == list(log.state.files)


def test_all_records_are_read_on_request(store: LocalStore, few: None) -> None:
    committed(started(store, ROWS), 9)
    counting = Counting(store.root)
    assert CommitLog(counting, ROWS, whole=True).state == CommitLog(store, ROWS).state
    assert counting.names == list(map(record_name, range(10)))


def test_older_checkpoints_are_deleted(store: LocalStore, few: None) -> None:
    log = started(store, ROWS)
    for expected in (4, 8, 12):
        committed(log, expected - log.state.next_seq)
        assert checkpoints(store) == [expected]
    assert len(store.list_sizes(LOG_FOLDER)) == 12, "records stay"


def test_a_checkpoint_may_follow_any_kind_of_record(store: LocalStore, few: None) -> None:
    log = started(store, 3)
    committed(log, 2)
    log.remove_rows([(0, 1)])
    assert checkpoints(store) == [4]
    assert CommitLog(store, 3).state == log.state
    old = log.commit_files([DataFile(f"data/e1-{'a' * 32}.parquet", 1, ((2, 3),))])
    log.remove_rows([(2, 3)], [(0, 1)])
    log.extend_plan([{"path": "p", "first_row_id": 3, "rows": 1}], complete=True, changed=[{"ranges": [[2, 3]]}])
    log.replace_files([old[0].path], [DataFile(f"data/e1-{'b' * 32}.parquet", 1, ((2, 3),))], [(2, 3)])
    assert checkpoints(store) == [8]
    committed(log, 1)
    log.remove_rows([], [(2, 3)])
    log.extend_plan([], complete=True)
    log.append_final()
    assert checkpoints(store) == [12]
    state = CommitLog(store, 3).state
    assert state == log.state == CommitLog(store, 3, whole=True).state
    assert state.is_final


def test_a_driver_that_opens_from_a_checkpoint_continues(store: LocalStore, few: None) -> None:
    committed(started(store, 10), 6)
    log = started(store, 10)
    assert (log.epoch, log.state.rows_before) == (2, 6)
    assert log.commit_files([DataFile(f"data/e2-{'a' * 32}.parquet", 1, ((5, 7),))]) == []
    committed(log, 4)
    log.append_final()
    assert CommitLog(store, 10).state == CommitLog(store, 10, whole=True).state


def test_a_checkpoint_that_is_deleted_after_the_listing_is_skipped(store: LocalStore, few: None) -> None:
    committed(started(store, ROWS), 5)

    class Stale(LocalStore):
        def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
            gone = {f"{SNAPSHOTS}/0000000009.json": 1} if folder == SNAPSHOTS else {}
            return super().list_sizes(folder, after) | gone

    stale = Stale(store.root)
    assert stale.list_sizes(SNAPSHOTS).keys() != store.list_sizes(SNAPSHOTS).keys()
    assert load_checkpoint(stale) == load_checkpoint(store)
    assert CommitLog(stale, ROWS).state == CommitLog(store, ROWS, whole=True).state


def test_a_checkpoint_that_is_replaced_while_the_log_opens(store: LocalStore, few: None) -> None:
    log = started(store, ROWS)
    committed(log, 3)
    late = Overtaken(store.root, "read", f"{SNAPSHOTS}/0000000004.json", lambda: committed(log, 4))
    assert CommitLog(late, ROWS).state == log.state
    assert checkpoints(store) == [8]


def test_a_late_checkpoint_deletes_only_older_ones(store: LocalStore, few: None) -> None:
    log = started(store, ROWS)
    committed(log, 3)
    early = load_checkpoint(store)
    assert early is not None
    committed(log, 4)
    for _ in range(2):  # whoever was paused, or repeats
        save_checkpoint(store, early)
        assert checkpoints(store) == [4, 8]
        assert load_checkpoint(store) == log.state
    committed(log, 4)
    assert checkpoints(store) == [12]


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_checkpoint_without_a_response(
    store: LocalStore, few: None, monkeypatch: pytest.MonkeyPatch, takes_effect: bool
) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    failing = Failing(store.root, failures=0, takes_effect=takes_effect)
    log = started(failing, ROWS)
    committed(log, 2)
    failing.failures = 2
    committed(log, 1)
    assert (checkpoints(store), CommitLog(store, ROWS).state) == ([4], log.state)


def test_a_commit_succeeds_if_its_checkpoint_fails(store: LocalStore, few: None) -> None:
    log = started(Full(store.root), ROWS)
    committed(log, 2)
    with pytest.raises(RunError, match="disk full"):
        committed(log, 1)
    assert checkpoints(store) == []
    again = started(store, ROWS)
    assert len(again.state.accepted) == 3
    with pytest.raises(FencedError):
        committed(log, 1)
    committed(again, 3)
    assert (checkpoints(store), CommitLog(store, ROWS).state) == ([8], again.state)
