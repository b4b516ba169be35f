"""Starting a run again after it has died: the commit log makes the second start go on where the first one was.

A cluster runs the command of a job once. The process that watches is small and imports neither torch nor ray.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import CvbatchError, RunError
from cvbatch.system.control_group import ROOT, count_memory_kills, memory_limit
from cvbatch.system.cpu import process_age

_WATCHER_VARIABLE: Final = "CVBATCH_WATCHED"
"""Holds the id of the process that watches, for its child alone: what that starts may inherit it."""
_FINAL_EXIT_CODE: Final = 4
"""How a watched run ends that did not finish and shall not be started again; nobody else sees this code."""
_RESTART_PAUSES: Final = (1.0, 5.0, 15.0, 60.0)
_MAX_KILLS: Final = 3
_PR_SET_PDEATHSIG: Final = 1


def run_supervised(
    command: Sequence[str],
    retries: int,
    print_line: Callable[[str], Any],
    *,
    pauses: Sequence[float] = _RESTART_PAUSES,
    root: Path = ROOT,
) -> int:
    """Run a command, and run it again after exit code 1 or a signal.

    Args:
        command: That of `cvbatch run`.
        retries: How often at most.
        print_line: Told of each further start, in one line.
        pauses: Seconds before each further start; the last one holds from then on.
        root: Where the files of the system are.

    Returns:
        The exit code of the last start; 1 if a signal ended it.
    """
    stopped, killed = False, 0
    child: subprocess.Popen[bytes] | None = None

    def handle_signal(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.send_signal(number)

    before = {number: signal.signal(number, handle_signal) for number in ending_signals()}
    try:
        for attempt in range(retries + 1):
            kills = count_memory_kills(root)
            child = subprocess.Popen(command, env={**os.environ, _WATCHER_VARIABLE: str(os.getpid())})
            if stopped:  # while it was being started
                child.terminate()
            code = child.wait()
            for_memory = code == -signal.SIGKILL and count_memory_kills(root) > kills
            killed = killed + 1 if for_memory else 0
            again = (code == RunError.exit_code or code < 0) and attempt < retries
            if killed >= _MAX_KILLS:
                print_line(
                    f"the run was killed for memory {killed} times in a row; "
                    f"give the container more than {_memory_limit_text(root)}"
                )
                again = False
            if not again or stopped:
                break
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "did not finish"
            how = f"was killed for memory, of which the container has {_memory_limit_text(root)}" if for_memory else how
            pause = pauses[min(attempt, len(pauses) - 1)]
            print_line(f"the run {how}; it goes on in {pause:.0f} s, start {attempt + 2} of at most {retries + 1}")
            _sleep_unless_stopped(pause, lambda: stopped)
            if stopped:
                break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return RunError.exit_code if code == _FINAL_EXIT_CODE or code < 0 else code


def ending_signals() -> list[signal.Signals]:
    """The signals that ask a process to end: Ctrl-C, `kill`, and a terminal that is closed, unless that is ignored."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


def supervised_command(given: Sequence[str]) -> list[str]:
    """The arguments of a command as one for a process of its own, which sees that it is watched."""
    # a module in the current folder must not hide one of Python's, unless this package itself lies there
    apart = [] if os.getcwd() == str(Path(__file__).parents[2]) else ["-P"]
    return [sys.executable, *apart, "-m", "cvbatch", *given]


def is_supervised() -> bool:
    """Whether another process starts this one again if need be."""
    return os.environ.get(_WATCHER_VARIABLE) == str(os.getppid())


def seconds_since_command() -> float:
    """Seconds since the command was given, be it to this process or to the one that watches it."""
    return process_age(os.getppid() if is_supervised() else None)


def exit_code_of_error(error: CvbatchError) -> int:
    """The exit code for an error; one that only the process that watches understands, if there is one."""
    if is_supervised() and isinstance(error, RunError) and not error.again:
        return _FINAL_EXIT_CODE
    return error.exit_code


def end_with_supervisor() -> None:
    """If this process is watched, let it end cleanly when the one that watches is killed."""
    if is_supervised() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _memory_limit_text(root: Path) -> str:
    return f"{(memory_limit(root) or 0) / 1e9:.1f} GB"


def _sleep_unless_stopped(seconds: float, over: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not over() and time.monotonic() < deadline:
        time.sleep(0.1)
