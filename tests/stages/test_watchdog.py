"""Processes that hang end themselves; each test starts its own processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

_PREPARED = """
import ctypes, threading, time
from cvbatch.stages.watchdog import Watchdog

dog = Watchdog(stalled_after=0.4)
"""


def ended(deeds: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", _PREPARED + textwrap.dedent(deeds)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_a_hang_that_holds_the_interpreter_lock_ends_the_process() -> None:
    end = ended("""
        def hang():
            ctypes.PyDLL(None).sleep(3600)

        with dog.watch_unit():
            hang()
    """)
    assert end.returncode == 1
    assert "Timeout (" in end.stderr
    assert "in hang" in end.stderr, "an operator sees where it was"


def test_progress_of_other_units_does_not_hide_a_hang() -> None:
    end = ended("""
        def others():
            while True:
                with dog.watch_unit():
                    time.sleep(0.01)

        threading.Thread(target=others, daemon=True).start()
        with dog.watch_unit():
            threading.Event().wait(3600)
    """)
    assert end.returncode == 1
    assert "Timeout (" in end.stderr


def test_waiting_for_earlier_units_is_not_a_hang() -> None:
    end = ended("""
        turn = threading.Lock()

        def work():
            with dog.watch_unit(), turn:
                time.sleep(0.3)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """)
    assert (end.returncode, end.stderr) == (0, "")


def test_the_timeout_may_be_infinite() -> None:
    end = ended("""
        with Watchdog(float("inf")).watch_unit():
            pass
    """)
    assert (end.returncode, end.stderr) == (0, "")


def test_units_that_end_in_time_do_not_end_the_process() -> None:
    end = ended("""
        began = time.monotonic()
        while time.monotonic() < began + 1:
            with dog.watch_unit():
                with dog.watch_unit():
                    time.sleep(0.01)
        time.sleep(1)
    """)
    assert (end.returncode, end.stderr) == (0, "")
