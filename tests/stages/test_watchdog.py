"""Processes that hang end themselves; each test has some of its own."""

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


def test_work_that_keeps_the_interpreter_to_itself_ends_the_process() -> None:
    end = ended("""
        def hang():
            ctypes.PyDLL(None).sleep(3600)

        with dog.watch_unit():
            hang()
    """)
    assert end.returncode == 1
    assert "Timeout (" in end.stderr
    assert "in hang" in end.stderr, "an operator sees where it was"


def test_other_work_does_not_hide_what_hangs() -> None:
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


def test_waiting_for_its_turn_is_not_hanging() -> None:
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


def test_patience_may_have_no_end() -> None:
    end = ended("""
        with Watchdog(float("inf")).watch_unit():
            pass
    """)
    assert (end.returncode, end.stderr) == (0, "")


def test_work_that_ends_is_left_alone() -> None:
    end = ended("""
        began = time.monotonic()
        while time.monotonic() < began + 1:
            with dog.watch_unit():
                with dog.watch_unit():
                    time.sleep(0.01)
        time.sleep(1)
    """)
    assert (end.returncode, end.stderr) == (0, "")
