"""The lease of a run: it keeps run attempts from disturbing each other, while safety depends on the log alone.

A holder writes a heartbeat every few seconds. A second attempt takes over at once if the holder is known to be dead,
otherwise once the lease has expired.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from cvbatch.errors import CorruptionError, CvbatchError, OutputError
from cvbatch.output.log_records import Record
from cvbatch.output.store import Store
from cvbatch.system.environment import EnvironmentNumber
from cvbatch.system.formats import RecordFormat

LEASE_FILE: Final = "_cvbatch/holder.json"
_HEARTBEAT: Final = RecordFormat("heartbeat", dict[str, Any])
HEARTBEAT_SECONDS: Final = EnvironmentNumber("CVBATCH_HEARTBEAT_SECONDS", 3.0)
LEASE_SECONDS: Final = EnvironmentNumber("CVBATCH_LEASE_SECONDS", 10.0)
"""Lease expires after this many seconds without a heartbeat.

It must be several times the heartbeat's interval, and the same for all attempts of a run."""
_CHECKS_PER_LEASE: Final = 20
"""Number of times that the heartbeat is read within that time."""


class HeldState(Protocol):
    """What a log says about who works on its output."""

    @property
    def holder(self) -> Record | None:
        """The newest `open` record."""

    @property
    def epoch(self) -> int:
        """Number of the newest attempt."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be done."""


def describe_process() -> dict[str, Any]:
    """Host, boot id, process id and start time, which show whether a holder is still alive."""
    pid = os.getpid()
    return {**_machine_identity(), "pid": pid, "started": _process_start_time(pid)}


def is_holder_alive(state: HeldState) -> bool | None:
    """Whether the holder of an unfinished run is a living process; None if this process cannot know it."""
    if state.holder is None or state.is_final:
        return False
    holder = state.holder["holder"]
    if holder["host"] != socket.gethostname():
        return None
    if holder["boot_id"] != _boot_id():
        return False
    if any(holder.get(name) != value for name, value in _machine_identity().items()):
        return None  # another container on the same machine
    if holder["started"] is None:
        return None  # the holder's system does not report start times
    return bool(_process_start_time(holder["pid"]) == holder["started"])


def last_heartbeat(store: Store, state: HeldState) -> Mapping[str, Any]:
    """The newest heartbeat of the holder; empty if it has written none."""
    heartbeat = _read_lease(store)
    return heartbeat if state.holder is not None and heartbeat.get("nonce") == state.holder["nonce"] else {}


def is_lease_held(store: Store, state: HeldState) -> bool:
    """Whether the holder is alive, by its process if it is on this machine, else by its heartbeat."""
    heartbeat = last_heartbeat(store, state)
    is_alive = is_holder_alive(state)
    if is_alive is None:
        is_alive = time.time() - heartbeat.get("time", 0.0) < LEASE_SECONDS.current_value
    return is_alive and not heartbeat.get("released")


def acquire_lease(
    store: Store, refresh_state: Callable[[], HeldState], *, wait: bool = False, takeover: bool = False
) -> None:
    """Return once no other process works on a run.

    An earlier attempt of this very process that did not end, as in a notebook, does not count as a holder.

    Args:
        store: The output.
        refresh_state: Reads new records of the log, and returns the state.
        wait: Wait for the holder to end instead of raising.
        takeover: Return without checking for a holder; opening the log fences it off.

    Raises:
        OutputError: If another process holds the run; the message names it.
    """
    while not takeover and not _is_free(store, state := refresh_state()):
        if not _heartbeat_changes(store):
            return
        if _is_free(store, refresh_state()):
            return
        if not wait:
            raise OutputError(
                f"{store.root}: {describe_holder(state)} is working on it; wait for it with --wait, or stop it"
            )


def describe_holder(state: HeldState) -> str:
    """The holder of a run as text for messages."""
    if state.holder is None:
        return "no process holds it"
    holder = state.holder["holder"]
    return f"process {holder['pid']} on {holder['host']}"


class Heartbeat:
    """Writes a heartbeat every few seconds while this process holds a run, and releases the lease at the end.

    Args:
        store: The output.
        state: State of its log, right after `open`.
        facts: Returns further fields for the heartbeat.
    """

    def __init__(self, store: Store, state: HeldState, facts: Callable[[], Mapping[str, Any]] = dict) -> None:
        assert state.holder is not None, "the log must be open"
        self._store = store
        self._lease_id = {"nonce": state.holder["nonce"], "epoch": state.epoch}
        self._facts = facts
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._write_heartbeat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._write_heartbeat(released=True)

    def _beat_until_stopped(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS.current_value):
            self._write_heartbeat()

    def _write_heartbeat(self, **fields: Any) -> None:
        content = {**self._lease_id, "time": time.time(), **self._facts(), **fields}
        with contextlib.suppress(CvbatchError, OSError):  # the run can continue without a heartbeat
            if not self._is_superseded():
                self._store.put_object(LEASE_FILE, _HEARTBEAT.encode_record(content))

    def _is_superseded(self) -> bool:
        return bool(_read_lease(self._store).get("epoch", 0) > self._lease_id["epoch"])


def _is_free(store: Store, state: HeldState) -> bool:
    if state.holder is None or state.is_final or is_holder_alive(state) is False:
        return True
    is_this_process = state.holder["holder"]["pid"] == os.getpid() and is_holder_alive(state) is True
    return is_this_process or bool(last_heartbeat(store, state).get("released"))


def _heartbeat_changes(store: Store) -> bool:
    first_heartbeat = _read_lease(store)
    lease_seconds = LEASE_SECONDS.current_value
    deadline = time.monotonic() + lease_seconds
    while time.monotonic() < deadline:
        time.sleep(lease_seconds / _CHECKS_PER_LEASE)
        if _read_lease(store) != first_heartbeat:
            return True
    return False


def _read_lease(store: Store) -> Mapping[str, Any]:
    try:
        return _HEARTBEAT.decode_record(store.read_object(LEASE_FILE), f"{store.root}/{LEASE_FILE}")
    except (FileNotFoundError, CorruptionError):
        return {}


def _machine_identity() -> dict[str, Any]:
    try:
        pid_namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        pid_namespace = None
    return {"host": socket.gethostname(), "boot_id": _boot_id(), "pid_space": pid_namespace}


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
