"""Who holds a run: a courtesy between starts; safety rests on the log alone.

A holder says every few seconds that it is there. A second start takes over at once from a process that is known to
be dead, and otherwise from one that does not stir.
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
from typing import Any, Final

from cvbatch.errors import CorruptionError, CvbatchError, OutputError
from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store
from cvbatch.system.environment import EnvironmentNumber
from cvbatch.system.formats import RecordFormat

LEASE_FILE: Final = "_cvbatch/holder.json"
_HEARTBEAT: Final = RecordFormat("heartbeat", dict[str, Any])
HEARTBEAT_SECONDS: Final = EnvironmentNumber("CVBATCH_HEARTBEAT_SECONDS", 3.0)
LEASE_SECONDS: Final = EnvironmentNumber("CVBATCH_LEASE_SECONDS", 10.0)
"""Whoever does not stir for so long is taken for dead; several heartbeats, and the same for all starts of a run."""
_LOOKS: Final = 20
"""How often a holder is looked at within that time."""


def describe_process() -> dict[str, Any]:
    """Host, boot, process id and its start: what tells a living holder from a dead one."""
    pid = os.getpid()
    return {**_machine_identity(), "pid": pid, "started": _process_start_time(pid)}


def is_holder_alive(state: RunState) -> bool | None:
    """Whether the holder of an unfinished run is a living process; None if that cannot be seen from here."""
    if state.holder is None or state.is_final:
        return False
    holder = state.holder["holder"]
    if holder["host"] != socket.gethostname():
        return None
    if holder["boot_id"] != _boot_id():
        return False
    if any(holder.get(name) != value for name, value in _machine_identity().items()):
        return None  # another container of the same machine
    if holder["started"] is None:
        return None  # its system does not tell when a process started
    return bool(_process_start_time(holder["pid"]) == holder["started"])


def last_heartbeat(store: Store, state: RunState) -> Mapping[str, Any]:
    """What the holder last said of itself; empty if it has said nothing."""
    beat = _read_lease(store)
    return beat if state.holder is not None and beat.get("nonce") == state.holder["nonce"] else {}


def acquire_lease(
    store: Store, refresh_state: Callable[[], RunState], *, wait: bool = False, takeover: bool = False
) -> None:
    """Return once nobody else works on a run.

    A start of this process that did not come to its end, as in a notebook, does not stand in its own way.

    Args:
        store: The output.
        refresh_state: Brings the state of its log up to date.
        wait: Wait for the holder instead of refusing.
        takeover: Do not look whether there is one; it will be fenced off.

    Raises:
        OutputError: Naming the holder.
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


def describe_holder(state: RunState) -> str:
    """Who holds the run, in words."""
    if state.holder is None:
        return "nobody holds it"
    holder = state.holder["holder"]
    return f"process {holder['pid']} on {holder['host']}"


class Heartbeat:
    """Says every few seconds that this process still holds a run, and in the end that it does not.

    Args:
        store: The output.
        state: Of its log, right after `open`.
        facts: What else to say of the run.
    """

    def __init__(self, store: Store, state: RunState, facts: Callable[[], Mapping[str, Any]] = dict) -> None:
        assert state.holder is not None, "open comes first"
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

    def _write_heartbeat(self, **more: Any) -> None:
        content = {**self._lease_id, "time": time.time(), **self._facts(), **more}
        with contextlib.suppress(CvbatchError, OSError):  # whoever cannot say it, can still work
            if not self._is_superseded():
                self._store.put_object(LEASE_FILE, _HEARTBEAT.encode_record(content))

    def _is_superseded(self) -> bool:
        return bool(_read_lease(self._store).get("epoch", 0) > self._lease_id["epoch"])


def _is_free(store: Store, state: RunState) -> bool:
    if state.holder is None or state.is_final or is_holder_alive(state) is False:
        return True
    ours = state.holder["holder"]["pid"] == os.getpid() and is_holder_alive(state) is True
    return ours or bool(last_heartbeat(store, state).get("released"))


def _heartbeat_changes(store: Store) -> bool:
    before = _read_lease(store)
    deadline = time.monotonic() + (lease := LEASE_SECONDS.current_value)
    while time.monotonic() < deadline:
        time.sleep(lease / _LOOKS)
        if _read_lease(store) != before:
            return True
    return False


def _read_lease(store: Store) -> Mapping[str, Any]:
    try:
        return _HEARTBEAT.decode_record(store.read_object(LEASE_FILE), f"{store.root}/{LEASE_FILE}")
    except (FileNotFoundError, CorruptionError):
        return {}


def _machine_identity() -> dict[str, Any]:
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = None
    return {"host": socket.gethostname(), "boot_id": _boot_id(), "pid_space": space}


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
