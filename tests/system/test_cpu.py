"""Age of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from cvbatch.runs.supervisor import _SUPERVISOR_VARIABLE
from cvbatch.system.cpu import process_age

ASKS = """import time; time.sleep({})
from cvbatch.runs.supervisor import seconds_since_command
print(seconds_since_command())"""


def test_the_age_of_a_process_counts_from_its_start() -> None:
    """In `stat` a name with spaces and brackets comes before the fields."""
    began = time.monotonic()
    child = subprocess.Popen(["bash", "-c", 'exec -a "a) b (c" sleep 60'])
    try:
        time.sleep(0.3)
        lived = time.monotonic() - began
        assert lived - 0.3 <= process_age(child.pid) <= lived + 0.1
    finally:
        child.kill()
        child.wait()


def test_a_process_that_has_ended_has_age_zero() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_age(process.pid) == 0.0


def test_the_command_of_a_watched_run_is_the_one_that_watches() -> None:
    def said(code: str, **environment: str) -> float:
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        return float(process.stdout)

    assert said(ASKS.format(0.3)) >= 0.3
    age = process_age()
    assert age <= said(ASKS.format(0), **{_SUPERVISOR_VARIABLE: str(os.getpid())}) <= process_age()
