"""A run in a bucket of a real server: its log, its files, two drivers, and a job without the right to delete."""

from __future__ import annotations

import json
import pickle
import uuid
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cvbatch.errors import DeniedError, FencedError, OutputError, RunError
from cvbatch.output.commit_log import LOG_FOLDER, CommitLog
from cvbatch.output.data_files import read_data_file
from cvbatch.output.lease import Heartbeat, acquire_lease, last_heartbeat
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import (
    DATA_FOLDER,
    SUCCESS_FILE,
    check_can_reopen,
    complete_finish,
    finish_run,
    is_finished,
    read_success_mark,
    withdraw_success_mark,
)
from cvbatch.output.object_store import ObjectStore
from cvbatch.output.store import open_store
from cvbatch.results.predictions import read
from cvbatch.results.verify import verify_output
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.output.actors import Objects
from tests.output.test_protocol import Protocol, explore
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer
from tests.samples import commit, planned_in, started, write

ROWS = 40
NO_DELETE = {"method": "DELETE", "status": 403, "times": 999}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")


def test_another_process_opens_the_same_store(object_store: ObjectStore) -> None:
    object_store.put_object("a", b"1")
    assert object_store.root.endswith("/run")
    pickled = pickle.dumps(object_store)
    assert b"secret" not in pickled.lower()
    assert pickle.loads(pickled).read_object("a") == b"1"


@pytest.mark.parametrize("key", ["a//b", "/a", "a\nb"])
def test_prefixes_that_obstore_cannot_name(as_job: ObjectServer, out: str, key: str) -> None:
    with pytest.raises(OutputError, match="without // and control characters"):
        open_store(f"s3://{out}/{key}")


def test_files_appear_whole_or_not_at_all(object_store: ObjectStore) -> None:
    def fail(local: str) -> None:
        Path(local).write_bytes(b"half")
        raise FencedError("no more")

    assert object_store.add_file("data/x", lambda local: Path(local).write_bytes(b"12345") and None) == 5
    with pytest.raises(FencedError):
        object_store.add_file("data/y", fail)
    assert object_store.list_sizes("data") == {"data/x": 5}


def test_a_full_local_disk_is_named(object_store: ObjectStore) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left on device; set TMPDIR to another folder"):
        object_store.add_file("data/x", full)


def test_a_run_from_plan_to_proof(object_store: ObjectStore, as_job: ObjectServer, tmp_path: Path) -> None:
    plan = planned_in(object_store, tmp_path, ROWS)
    log = started(object_store, ROWS)
    with Heartbeat(object_store, log.state):
        commit(log, 0, 10, failed=[3])
        assert last_heartbeat(object_store, log.state)["epoch"] == 1
        commit(log, 10, ROWS)
        finish_run(log)
    again = CommitLog(object_store, plan.rows, whole=True)
    assert is_finished(object_store, again.state)
    for deep in (False, True):
        assert verify_output(object_store, again, deep=deep).is_proven
    where = {"endpoint_url": as_job.endpoint}
    frame = read(object_store.root, storage=where)
    assert frame["row_id"].tolist() == list(range(ROWS))
    assert frame.columns.tolist() == read(object_store.root, columns=frame.columns, storage=where).columns.tolist()
    acquire_lease(object_store, again.refresh)


def test_a_missing_committed_file_is_reported(object_store: ObjectStore, tmp_path: Path) -> None:
    planned_in(object_store, tmp_path, ROWS)
    log = started(object_store, ROWS)
    (file,) = commit(log, 0, ROWS)
    finish_run(log)
    object_store.delete_object(file.path)
    assert verify_output(object_store, CommitLog(object_store, ROWS)).problems == [f"{file.path} is missing"]
    with pytest.raises(RunError, match="a committed file is missing"):
        read(object_store.place)


# through faults

HARMS: dict[str, dict[str, Any]] = {
    "answer lost": {"kind": "lost"},
    "never arrived": {"kind": "unsent"},
    "throttled": {"kind": "status", "status": 503},
    "server error": {"kind": "status", "status": 500},
    "undecided": {"kind": "status", "status": 409},
}


@pytest.mark.parametrize("harm", HARMS)
def test_every_record_exists_once_despite_faults(
    faulty_store: ObjectStore, object_store: ObjectStore, faults: FaultProxy, harm: str
) -> None:
    """The first two requests of every append fail."""
    log = CommitLog(faulty_store, ROWS)
    numbers = [f"{seq:010d}" for seq in range(4)]
    harms = [Fault(**HARMS[harm], method="PUT", path=f"log/{number}", times=2) for number in numbers]
    with faults.doing(*harms):
        log.open_epoch()
        log.commit_files([DataFile(f"{DATA_FOLDER}/e00000001-{'a' * 32}.parquet", 1, ((0, 10),))])
        log.commit_files([DataFile(f"{DATA_FOLDER}/e00000001-{'b' * 32}.parquet", 1, ((10, ROWS),))])
        log.append_final()
        assert not any(fault.times for fault in harms)
    records = [json.loads(object_store.read_object(name)) for name in object_store.list_sizes(LOG_FOLDER)]
    assert [record["type"] for record in records] == ["open", "commit", "commit", "final"]
    assert CommitLog(object_store, ROWS, whole=True).state == log.state


def test_a_long_log_is_not_listed_for_each_file(
    faulty_store: ObjectStore, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "2")
    log = CommitLog(faulty_store, ROWS)
    log.open_epoch()
    asked = []
    for low in range(0, 16, 2):
        with faults.doing() as requests:
            commit(log, low, low + 2)
        asked.append(sum("list-type=2" in request.path for request in requests))
    assert asked == [1] * 8
    assert CommitLog(faulty_store, ROWS, whole=True).state == log.state


def test_a_lost_response_is_not_mistaken_for_success(
    faulty_store: ObjectStore, object_store: ObjectStore, faults: FaultProxy
) -> None:
    older = CommitLog(faulty_store, ROWS)
    older.open_epoch()
    newer = CommitLog(object_store, ROWS)
    newer.open_epoch()
    file = DataFile(f"{DATA_FOLDER}/e00000001-{'a' * 32}.parquet", 1, ((0, 10),))
    with faults.doing(Fault("lost", method="PUT", times=1)), pytest.raises(FencedError):
        older.commit_files([file])
    assert CommitLog(object_store, ROWS).state.epoch == 2
    assert not CommitLog(object_store, ROWS).state.files


def test_reading_files_continues_after_faults(faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path) -> None:
    planned_in(faulty_store, tmp_path, ROWS)
    log = started(faulty_store, ROWS)
    (file,) = commit(log, 0, ROWS)
    for harm in (Fault("status", path="parquet", times=2), Fault("reset", path="parquet", after=500, times=2)):
        with faults.doing(harm):
            assert read_data_file(faulty_store, file).num_rows == ROWS
            assert harm.times == 0


# drivers that take turns


class Mirrored(Objects):
    """The model's memory, with a bucket that must always have the same objects."""

    place: Location

    def __init__(self) -> None:
        super().__init__()
        self.remote = ObjectStore(Location(f"{self.place.uri}{uuid.uuid4().hex}", self.place.options))

    def read_object(self, name: str) -> bytes:
        try:
            data = self.remote.read_object(name)
        except FileNotFoundError:
            assert name not in self.content
            raise
        assert data == super().read_object(name)
        return data

    def put_object(self, name: str, data: bytes) -> None:
        self.remote.put_object(name, data)
        super().put_object(name, data)

    def create_object(self, name: str, data: bytes) -> bool:
        absent = self.remote.create_object(name, data)
        assert absent == (name not in self.content)
        if absent:
            super().put_object(name, data)
        return absent

    def list_sizes(self, folder: str, after: str = "") -> dict[str, int]:
        sizes = self.remote.list_sizes(folder, after)
        assert sizes == super().list_sizes(folder, after)
        return sizes

    def delete_object(self, name: str) -> bool:
        assert self.remote.delete_object(name)
        return super().delete_object(name)


@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_drivers_that_take_turns_on_a_real_server(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    monkeypatch.setenv("CVBATCH_CHECKPOINT_RECORDS", "4")
    Mirrored.place = object_store.place

    class OnServer(Protocol):
        new_objects = Mirrored

    explore(examples, 25, OnServer)


# without the right to delete


def ended(store: ObjectStore, folder: Path, *, stray: bool) -> CommitLog:
    planned_in(store, folder, ROWS)
    log = started(store, ROWS)
    commit(log, 0, ROWS)
    if stray:
        write(log, 0, 10)
    finish_run(log)
    return log


def test_a_first_run_needs_no_right_to_delete(
    faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVBATCH_CHECKPOINT_RECORDS", "1")
    with faults.doing(Fault("status", **NO_DELETE)):
        log = ended(faulty_store, tmp_path, stray=False)
        assert is_finished(faulty_store, log.state)
        assert verify_output(faulty_store, log).is_proven


def test_files_that_must_be_deleted_are_named_without_the_right_to_delete(
    faulty_store: ObjectStore, object_store: ObjectStore, faults: FaultProxy, tmp_path: Path
) -> None:
    with faults.doing(Fault("status", **NO_DELETE)):
        with pytest.raises(RunError, match=r"all rows are complete, but 1 files .* must be deleted") as named:
            ended(faulty_store, tmp_path, stray=True)
        log = CommitLog(faulty_store, ROWS)
        assert log.state.is_final
        (stray,) = verify_output(faulty_store, log).strays
        assert stray in str(named.value)
        with pytest.raises(FileNotFoundError):
            object_store.read_object(SUCCESS_FILE)
        assert len(read(object_store.place)) == ROWS, "who reads with cvbatch is right all the same"
        object_store.delete_object(stray)
        assert complete_finish(log)
        assert is_finished(faulty_store, log.state)


def test_a_finished_run_is_not_reopened_without_the_right(
    faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path
) -> None:
    with faults.doing(Fault("status", **NO_DELETE)):
        check_can_reopen(faulty_store, replaces=False)
        with pytest.raises(OutputError, match="requires the right to delete"):
            check_can_reopen(faulty_store, replaces=True)
        ended(faulty_store, tmp_path, stray=False)
        with pytest.raises(OutputError, match="requires the right to delete"):
            check_can_reopen(faulty_store, replaces=False)
    check_can_reopen(faulty_store, replaces=True)


def test_an_older_mark_without_the_right_to_delete(
    faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path
) -> None:
    ended(faulty_store, tmp_path, stray=False)
    log = started(faulty_store, ROWS)
    with faults.doing(Fault("status", **NO_DELETE)), pytest.raises(RunError, match="_SUCCESS names an older manifest"):
        finish_run(log)


def test_with_manifest_only_undeletable_files_stay(
    faulty_store: ObjectStore, object_store: ObjectStore, faults: FaultProxy, tmp_path: Path
) -> None:
    with faults.doing(Fault("status", **NO_DELETE)):
        ended(faulty_store, tmp_path, stray=False)
        check_can_reopen(faulty_store, replaces=True, manifest_only=True)
        log = started(faulty_store, ROWS)
        with pytest.raises(RunError, match="must be deleted before this run can continue"):
            withdraw_success_mark(faulty_store, manifest_only=False)
        withdraw_success_mark(faulty_store, manifest_only=True)
        assert read_success_mark(faulty_store) == ""
        assert not is_finished(faulty_store, log.state)
        finish_run(log, manifest_only=True)
        assert is_finished(faulty_store, log.state)
        assert complete_finish(log, manifest_only=True), "the same command again changes nothing"
        assert len(read(object_store.place)) == ROWS


def test_no_right_to_write(as_job: ObjectServer, tmp_path: Path) -> None:
    name = as_job.make_bucket("images")
    store = open_store(Location.from_uri(f"s3://{name}/run", StorageOptions(endpoint_url=as_job.endpoint)))
    with pytest.raises(DeniedError, match="403 AccessDenied"):
        planned_in(store, tmp_path, 2)
    assert as_job.content(name) == {}


def test_plain_readers_see_a_run(object_store: ObjectStore, as_job: ObjectServer, out: str, tmp_path: Path) -> None:
    ended(object_store, tmp_path, stray=True)
    content = as_job.content(out, f"{object_store.place.key}data/")
    (local := tmp_path / "copy").mkdir()
    for key, data in content.items():
        (local / key.rpartition("/")[2]).write_bytes(data)
    assert sorted(pq.read_table(local)["row_id"].to_pylist()) == list(range(ROWS))
