"""Closed, full and silenced output streams; each case runs in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import commit, planned, started

GUARDED = "from cvbatch.system.standard_streams import *; guard_streams(); import os, sys, threading\n"
FULL = "/dev/full"


def shell(command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `"$@"` is replaced by the arguments."""
    return subprocess.run(
        ["bash", "-c", command, "bash", *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=cwd
    )


def python(redirection: str, code: str) -> subprocess.CompletedProcess[str]:
    return shell(f'"$@" {redirection}', sys.executable, "-c", GUARDED + code)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_file_never_gets_the_descriptor_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    code = f"""
file = open({str(tmp_path / "data")!r}, "w")
print("to nobody"); print("to nobody", file=sys.stderr); os.write(1, b"raw"); os.write(2, b"raw")
assert file.fileno() > 2 and sys.stdin is not None
flush_streams()
file.write("data"); file.close()
open({str(tmp_path / "done")!r}, "w").close()
"""
    process = python(closed, code)
    assert (tmp_path / "done").exists(), process
    assert (tmp_path / "data").read_text() == "data"
    assert process.returncode == 0
    assert "Traceback" not in process.stderr


def test_a_closed_pipe_is_not_reported() -> None:
    code = (
        "[print('x' * 80) for _ in range(100_000)]\n"
        "closed = is_output_closed(); flush_streams(); os._exit(7 if closed else 8)"
    )
    process = shell('"$@" | head -1; exit ${PIPESTATUS[0]}', sys.executable, "-c", GUARDED + code)
    assert process.returncode == 7
    assert process.stdout == "x" * 80 + "\n"
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "is_reported"), [(f"> {FULL}", True), (f"2> {FULL}", False), (f"> {FULL} 2>&1", False)]
)
def test_a_full_device_is_reported_on_standard_error(redirection: str, is_reported: bool) -> None:
    process = python(redirection, "print('x'); print('y', file=sys.stderr); flush_streams(); os._exit(5)")
    assert process.returncode == 5
    assert ("standard output could not be written: no space left on device" in process.stderr) == is_reported
    assert "Traceback" not in process.stderr


def test_characters_outside_the_encoding_are_escaped() -> None:
    process = subprocess.run(
        [sys.executable, "-c", GUARDED + "print('größe \\udcff'); flush_streams()"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert process.stdout == b"gr\\xf6\\xdfe \\udcff\n"


def test_all_output_of_libraries_is_dropped() -> None:
    code = """
import asyncio, gc, logging, warnings
before = sys.stdout
class Ends:
    def __del__(self):
        raise KeyError("destructor")
def fails():
    raise KeyError("thread")
async def lost():
    raise KeyError("task")
def noise():
    print("python out"); print("python err", file=sys.stderr); os.write(2, b"native err\\n")
    logging.error("logged")
    thread = threading.Thread(target=fails); thread.start(); thread.join()
    Ends(); gc.collect()
    async def main():
        task = asyncio.ensure_future(lost())
        await asyncio.sleep(0)
    asyncio.run(main()); gc.collect()
with quiet_libraries():
    noise()
    print("ours", file=get_terminal_stream()); print("events", file=before)
thread = threading.Thread(target=fails); thread.start(); thread.join()
Ends(); gc.collect()
os.write(2, b"native after\\n"); print("after", file=sys.stderr); print("result")
flush_streams(); os._exit(0)
"""
    process = python("", code)
    assert process.stderr.splitlines() == ["ours", "native after", "after"]
    assert process.stdout.splitlines() == ["events", "result"]


COMMANDS = {">&-": "status", "2>&-": "verify", ">&- 2>&- <&-": "verify --json", f"> {FULL}": "status --json"}
"""Each redirection with a different command, to save processes."""


@pytest.mark.parametrize(("redirection", "command"), [*COMMANDS.items(), ("| head -c 1", "models")])
def test_exit_codes_do_not_depend_on_the_output_streams(redirection: str, command: str, tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 4)
    commit(started(store, plan.rows), 0, 4)
    name, *flags = command.split()
    arguments = [sys.executable, "-m", "cvbatch", name, *([store.root] if name != "models" else []), *flags]
    expected = 1 if name == "verify" else 0  # the run was never finished
    process = shell(f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', *arguments)
    assert process.returncode == expected, process.stderr
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr


def test_a_usage_error_has_its_exit_code_without_streams(tmp_path: Path) -> None:
    process = shell('"$@" >&- 2>&-', sys.executable, "-m", "cvbatch", "status", str(tmp_path / "none"))
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("ending", "is_reported"), [("os._exit(1)", True), ("os.kill(os.getpid(), 9)", True), ("pass", False)]
)
def test_an_unexpected_end_is_reported(ending: str, is_reported: bool) -> None:
    process = python("", f"with report_if_killed('ended'), quiet_libraries():\n    {ending}\nos._exit(0)")
    assert ("cvbatch: ended\n" in process.stderr) == is_reported
