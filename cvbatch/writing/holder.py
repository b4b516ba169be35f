"""Who holds a run: a courtesy between starts on one machine; safety rests on the log alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from cvbatch.errors import OutputError
from cvbatch.writing.records import State


def this_process() -> dict[str, Any]:
    """Host, boot, process id and its start: what tells a living holder from a dead one."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot_id": _boot_id(), "pid": pid, "started": _process_start(pid)}


def holder_lives(state: State) -> bool:
    """Whether the run is unfinished and its holder is a living process of this very machine."""
    if state.holder is None or state.final:
        return False
    holder = state.holder["holder"]
    here = holder["host"] == socket.gethostname() and holder["boot_id"] == _boot_id()
    return here and holder["started"] is not None and _process_start(holder["pid"]) == holder["started"]


def refuse_if_held(state: State, output: str) -> None:
    """Refuse a run that another living process of this machine works on.

    A start of this process that did not come to its end, as in a notebook, does not stand in its own way.

    Raises:
        OutputError: Naming the process.
    """
    if holder_lives(state) and state.holder and state.holder["holder"]["pid"] != os.getpid():
        raise OutputError(f"{output}: {describe(state)} is working on it; wait for it or stop it")


def describe(state: State) -> str:
    """Who holds the run, in words."""
    if state.holder is None:
        return "nobody holds it"
    holder = state.holder["holder"]
    return f"process {holder['pid']} on {holder['host']}"


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
