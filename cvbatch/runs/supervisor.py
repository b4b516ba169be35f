"""Restarting a run after it has died; the commit log lets the next attempt continue where the last one stopped.

A cluster runs the command of a job only once. The supervisor process is small and imports neither torch nor ray.
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

_SUPERVISOR_VARIABLE: Final = "CVBATCH_WATCHED"
"""Environment variable with the process id of the supervisor. Grandchildren may inherit it, so the id is compared with
that of the parent process."""
_FINAL_EXIT_CODE: Final = 4
"""Exit code of a supervised run that did not finish and must not be restarted; only the supervisor sees it."""
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
    """Run a command, and restart it after exit code 1 or a signal.

    Args:
        command: Command line of `cvbatch run`.
        retries: Most restarts.
        print_line: Called with one line about each restart.
        pauses: Seconds before each restart; the last value repeats.
        root: Root of the file system, for `/proc` and `/sys`.

    Returns:
        The exit code of the last attempt; 1 if a signal ended it.
    """
    stopped, kills_in_a_row = False, 0
    child: subprocess.Popen[bytes] | None = None

    def handle_signal(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.send_signal(number)

    old_handlers = {number: signal.signal(number, handle_signal) for number in ending_signals()}
    try:
        for attempt in range(retries + 1):
            kills_before = count_memory_kills(root)
            child = subprocess.Popen(command, env={**os.environ, _SUPERVISOR_VARIABLE: str(os.getpid())})
            if stopped:  # a signal came before there was a child to forward it to
                child.terminate()
            code = child.wait()
            out_of_memory = code == -signal.SIGKILL and count_memory_kills(root) > kills_before
            kills_in_a_row = kills_in_a_row + 1 if out_of_memory else 0
            should_restart = (code == RunError.exit_code or code < 0) and attempt < retries
            if kills_in_a_row >= _MAX_KILLS:
                print_line(
                    f"the run was killed for memory {kills_in_a_row} times in a row; "
                    f"give the container more than {_memory_limit_text(root)}"
                )
                should_restart = False
            if not should_restart or stopped:
                break
            cause = f"was ended by {signal.Signals(-code).name}" if code < 0 else "did not finish"
            if out_of_memory:
                cause = f"was killed because its container has only {_memory_limit_text(root)} of memory"
            pause = pauses[min(attempt, len(pauses) - 1)]
            print_line(f"the run {cause}; it restarts in {pause:.0f} s, attempt {attempt + 2} of at most {retries + 1}")
            _sleep_unless_stopped(pause, lambda: stopped)
            if stopped:
                break
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    return RunError.exit_code if code == _FINAL_EXIT_CODE or code < 0 else code


def ending_signals() -> list[signal.Signals]:
    """Signals that ask a process to end: Ctrl-C, `kill`, and a closed terminal unless the process ignores that one."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def supervised_command(arguments: Sequence[str]) -> list[str]:
    """Command line that runs cvbatch with these arguments in a child process."""
    # -P: a module in the current folder must not hide one of Python's; not if this package itself is in that folder
    safe_path = [] if os.getcwd() == str(Path(__file__).parents[2]) else ["-P"]
    return [sys.executable, *safe_path, "-m", "cvbatch", *arguments]


def is_supervised() -> bool:
    """Whether a supervisor restarts this process if necessary."""
    return os.environ.get(_SUPERVISOR_VARIABLE) == str(os.getppid())


def seconds_since_command() -> float:
    """Seconds since the command started; that is the supervisor's start if there is one."""
    return process_age(os.getppid() if is_supervised() else None)


def exit_code_of_error(error: CvbatchError) -> int:
    """Exit code for an error; under a supervisor, a special code says that a restart would not help."""
    if is_supervised() and isinstance(error, RunError) and not error.again:
        return _FINAL_EXIT_CODE
    return error.exit_code


def end_with_supervisor() -> None:
    """End this process cleanly when its supervisor is killed."""
    if is_supervised() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _memory_limit_text(root: Path) -> str:
    return f"{(memory_limit(root) or 0) / 1e9:.1f} GB"


def _sleep_unless_stopped(seconds: float, is_stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not is_stopped() and time.monotonic() < deadline:
        time.sleep(0.1)
