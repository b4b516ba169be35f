"""A living holder is distinguished from a dead one, and keeps its run."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from cvbatch.errors import OutputError, RunError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import (
    LEASE_FILE,
    Heartbeat,
    acquire_lease,
    describe_holder,
    describe_process,
    is_holder_alive,
    last_heartbeat,
)
from cvbatch.output.store import LocalStore

CHILD: Final = """import json, sys; from cvbatch.output.lease import describe_process
print(json.dumps(describe_process()), flush=True); sys.stdin.read()"""
ROWS: Final = 3


class Child:
    """A process that lives until the test ends it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.holder: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


class ObservedStore(LocalStore):
    """Counts reads of the heartbeat, and fails on request."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.times = 0
        self.broken: Mapping[str, Exception] = {}
        """Errors to raise when reading or writing."""
        self.failed = threading.Event()

    def read_object(self, name: str) -> bytes:
        self.times += name == LEASE_FILE
        self._fail("read")
        return super().read_object(name)

    def put_object(self, name: str, data: bytes) -> None:
        self._fail("put")
        super().put_object(name, data)

    def _fail(self, request: str) -> None:
        if request in self.broken:
            self.failed.set()
            raise self.broken[request]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    living = Child()
    yield living
    living.end()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_LEASE_SECONDS", "0.5")
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.05")


def held_by(holder: dict[str, Any], store: LocalStore) -> CommitLog:
    log = CommitLog(store, ROWS)
    log.open_epoch(holder)
    return log


@contextmanager
def repeated(work: Callable[[int], object]) -> Iterator[None]:
    """Repeat work in another thread; its argument counts the repetitions."""
    stopped, count = threading.Event(), 0

    def repeat() -> None:
        nonlocal count
        while not stopped.wait(0.02):
            count += 1
            work(count)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def beats(log: CommitLog, **fields: Any) -> Callable[[int], object]:
    """Return a function that writes a heartbeat as a holder in another process does."""
    assert log.state.holder is not None
    lease = {"nonce": log.state.holder["nonce"], "epoch": log.state.epoch, **fields}
    return lambda count: log.store.put_object(
        LEASE_FILE, json.dumps({**lease, "time": time.time(), "count": count}).encode()
    )


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within 10 seconds."""
    for _ in range(1_000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def watches(store: LocalStore, log: CommitLog, **options: bool) -> bool:
    """Whether acquiring the lease now watches the heartbeat for a while; it must not be refused."""
    observed = ObservedStore(store.root)
    acquire_lease(observed, log.refresh, **options)
    return observed.times > 1


def test_a_living_process_and_a_dead_one(store: LocalStore) -> None:
    child = Child()
    log = held_by(child.holder, store)
    assert is_holder_alive(log.state) is True
    assert describe_holder(log.state) == f"process {child.process.pid} on {child.holder['host']}"
    child.end()
    assert is_holder_alive(log.state) is False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"boot_id": "another"}, False),
        ({"started": "1"}, False),
        ({"pid": 2**30}, False),
        ({"host": "elsewhere"}, None),
        ({"pid_space": "pid:[1]"}, None),
        ({"started": None}, None),
    ],
    ids=lambda value: str(value),
)
def test_whether_a_holder_is_alive_may_be_unknown(
    child: Child, store: LocalStore, change: dict[str, Any], expected: bool | None
) -> None:
    assert is_holder_alive(held_by({**child.holder, **change}, store).state) is expected


def test_a_holder_of_an_older_version_has_no_pid_space(child: Child, store: LocalStore) -> None:
    del (holder := dict(child.holder))["pid_space"]
    assert is_holder_alive(held_by(holder, store).state) is None


def test_a_run_without_a_holder(store: LocalStore) -> None:
    log = CommitLog(store, ROWS)
    assert is_holder_alive(log.state) is False
    assert describe_holder(log.state) == "no process holds it"
    assert last_heartbeat(store, log.state) == {}
    assert not watches(store, log)


def test_a_finished_run_is_free(child: Child, store: LocalStore) -> None:
    log = CommitLog(store, 0)
    log.open_epoch(child.holder)
    log.append_final()
    assert is_holder_alive(log.state) is False
    assert not watches(store, log)


def test_a_dead_process_is_taken_over_at_once(child: Child, store: LocalStore) -> None:
    log = held_by({**child.holder, "started": "1"}, store)
    assert not watches(store, log)


def test_a_living_process_with_heartbeats_keeps_its_run(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    name = f"process {child.process.pid} on {child.holder['host']}"
    with repeated(beats(log)), pytest.raises(OutputError, match=f"{store.root}: {name} is working on it; .*--wait"):
        acquire_lease(store, log.refresh)


def test_the_lease_of_a_living_process_without_heartbeats_expires(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    beats(log)(1)
    assert watches(store, log)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"pid_space": "pid:[1]"}], ids=str)
def test_heartbeats_decide_about_a_process_on_another_host(
    child: Child, store: LocalStore, change: dict[str, Any]
) -> None:
    log = held_by({**child.holder, **change}, store)
    with repeated(beats(log)), pytest.raises(OutputError, match="is working on it"):
        acquire_lease(store, log.refresh)
    acquire_lease(store, log.refresh)


def test_a_released_lease_is_not_watched(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    beats(log, released=True)(1)
    assert not watches(store, log)
    second = held_by(child.holder, store)
    assert last_heartbeat(store, second.state) == {}, "the release was by another attempt"
    assert watches(store, second)


def test_an_attempt_does_not_block_its_own_process(store: LocalStore) -> None:
    log = held_by(describe_process(), store)
    assert is_holder_alive(log.state) is True
    assert not watches(store, log)


def test_waiting_ends_when_the_holder_is_done(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    beat, reads = beats(log), list[int]()

    def read() -> Any:
        reads.append(1)
        if len(reads) == 4:  # not before it was refused
            CommitLog(store, ROWS).open_epoch({**child.holder, "pid": 2**30})
        return log.refresh()

    with repeated(beat):
        acquire_lease(store, read, wait=True)
    assert len(reads) >= 4


def test_a_takeover_does_not_read_the_heartbeat(child: Child, store: LocalStore) -> None:
    assert not watches(store, held_by(child.holder, store), takeover=True)


def test_a_heartbeat_is_repeated(store: LocalStore) -> None:
    log, calls = held_by(describe_process(), store), list[int]()

    def facts() -> dict[str, Any]:
        calls.append(1)
        return {"workers": len(calls)}

    with Heartbeat(store, log.state, facts):
        first = last_heartbeat(store, log.state)
        assert first["workers"] >= 1
        assert first["epoch"] == log.epoch
        assert comes_true(lambda: last_heartbeat(store, log.state)["workers"] > first["workers"])
        assert "released" not in last_heartbeat(store, log.state)
    assert last_heartbeat(store, log.state)["released"] is True


def test_a_heartbeat_does_not_overwrite_that_of_a_newer_attempt(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "600")  # it beats at the beginning and at the end
    old = held_by(describe_process(), store)
    with Heartbeat(store, old.state):
        new = held_by(describe_process(), store)
        beats(new)(7)
    assert last_heartbeat(store, new.state)["count"] == 7
    assert last_heartbeat(store, old.state) == {}


@pytest.mark.parametrize(
    ("request_name", "error"),
    [("put", RunError("no space left on device")), ("read", OSError(errno.EIO, "broken"))],
    ids=["put", "read"],
)
def test_a_heartbeat_continues_after_the_store_fails(store: LocalStore, request_name: str, error: Exception) -> None:
    log, failing = held_by(describe_process(), store), ObservedStore(store.root)
    with Heartbeat(failing, log.state):
        failing.broken = {request_name: error}
        assert failing.failed.wait(30)
        failing.broken = {}
        os.unlink(store.local_path(LEASE_FILE))
        assert comes_true(lambda: bool(last_heartbeat(store, log.state))), "the heartbeat has stopped"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_heartbeat_counts_as_none(child: Child, store: LocalStore, content: bytes) -> None:
    log = held_by(child.holder, store)
    store.put_object(LEASE_FILE, content)
    assert last_heartbeat(store, log.state) == {}
    acquire_lease(store, log.refresh)
