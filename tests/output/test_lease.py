"""A living holder is told from a dead one, and is left alone."""

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
    """A process that lives until it is told to end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.holder: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


class Looked(LocalStore):
    """Counts how often it was looked at what the holder says, and fails on request."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.times = 0
        self.broken: Mapping[str, Exception] = {}
        """What reading or writing raises."""
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
def meanwhile(work: Callable[[int], object]) -> Iterator[None]:
    """Do something again and again, in another thread; it is told how often it was done."""
    over, times = threading.Event(), 0

    def go_on() -> None:
        nonlocal times
        while not over.wait(0.02):
            times += 1
            work(times)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def beats(log: CommitLog, **more: Any) -> Callable[[int], object]:
    """What a holder in another process does all the time."""
    assert log.state.holder is not None
    about = {"nonce": log.state.holder["nonce"], "epoch": log.state.epoch, **more}
    return lambda count: log.store.put_object(
        LEASE_FILE, json.dumps({**about, "time": time.time(), "count": count}).encode()
    )


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does so within some seconds."""
    for _ in range(1_000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def watches(store: LocalStore, log: CommitLog, **options: bool) -> bool:
    """Whether whoever claims a run now looks for a while whether its holder stirs; it must not be refused."""
    looked = Looked(store.root)
    acquire_lease(looked, log.refresh, **options)
    return looked.times > 1


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
def test_what_can_be_seen_from_here(
    child: Child, store: LocalStore, change: dict[str, Any], expected: bool | None
) -> None:
    assert is_holder_alive(held_by({**child.holder, **change}, store).state) is expected


def test_a_start_of_an_older_version_did_not_name_its_process_space(child: Child, store: LocalStore) -> None:
    del (holder := dict(child.holder))["pid_space"]
    assert is_holder_alive(held_by(holder, store).state) is None


def test_nobody(store: LocalStore) -> None:
    log = CommitLog(store, ROWS)
    assert is_holder_alive(log.state) is False
    assert describe_holder(log.state) == "nobody holds it"
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


def test_a_living_process_that_beats_is_left_alone(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    name = f"process {child.process.pid} on {child.holder['host']}"
    with meanwhile(beats(log)), pytest.raises(OutputError, match=f"{store.root}: {name} is working on it; .*--wait"):
        acquire_lease(store, log.refresh)


def test_a_living_process_that_does_not_stir_is_taken_over_after_a_while(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    beats(log)(1)
    assert watches(store, log)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"pid_space": "pid:[1]"}], ids=str)
def test_a_process_that_cannot_be_seen_goes_by_its_beats(
    child: Child, store: LocalStore, change: dict[str, Any]
) -> None:
    log = held_by({**child.holder, **change}, store)
    with meanwhile(beats(log)), pytest.raises(OutputError, match="is working on it"):
        acquire_lease(store, log.refresh)
    acquire_lease(store, log.refresh)


def test_whoever_has_said_goodbye_is_not_watched(child: Child, store: LocalStore) -> None:
    log = held_by(child.holder, store)
    beats(log, released=True)(1)
    assert not watches(store, log)
    second = held_by(child.holder, store)
    assert last_heartbeat(store, second.state) == {}, "that was the goodbye of another start"
    assert watches(store, second)


def test_a_start_does_not_stand_in_its_own_way(store: LocalStore) -> None:
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

    with meanwhile(beat):
        acquire_lease(store, read, wait=True)
    assert len(reads) >= 4


def test_a_takeover_does_not_look(child: Child, store: LocalStore) -> None:
    assert not watches(store, held_by(child.holder, store), takeover=True)


def test_a_heartbeat_says_more_than_once_that_it_is_there(store: LocalStore) -> None:
    log, told = held_by(describe_process(), store), list[int]()

    def facts() -> dict[str, Any]:
        told.append(1)
        return {"workers": len(told)}

    with Heartbeat(store, log.state, facts):
        first = last_heartbeat(store, log.state)
        assert first["workers"] >= 1
        assert first["epoch"] == log.epoch
        assert comes_true(lambda: last_heartbeat(store, log.state)["workers"] > first["workers"])
        assert "released" not in last_heartbeat(store, log.state)
    assert last_heartbeat(store, log.state)["released"] is True


def test_a_heartbeat_does_not_write_over_that_of_a_newer_start(
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
def test_a_heartbeat_goes_on_when_the_store_fails(store: LocalStore, request_name: str, error: Exception) -> None:
    log, failing = held_by(describe_process(), store), Looked(store.root)
    with Heartbeat(failing, log.state):
        failing.broken = {request_name: error}
        assert failing.failed.wait(30)
        failing.broken = {}
        os.unlink(store.local_path(LEASE_FILE))
        assert comes_true(lambda: bool(last_heartbeat(store, log.state))), "it has given up"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_beat_that_is_damaged_says_nothing(child: Child, store: LocalStore, content: bytes) -> None:
    log = held_by(child.holder, store)
    store.put_object(LEASE_FILE, content)
    assert last_heartbeat(store, log.state) == {}
    acquire_lease(store, log.refresh)
