"""A run does not suffer where its output can go nowhere; each case in a process of its own."""

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
    """Run a line of a shell in which `"$@"` stands for the arguments."""
    return subprocess.run(
        ["bash", "-c", command, "bash", *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=cwd
    )


def python(redirection: str, code: str) -> subprocess.CompletedProcess[str]:
    return shell(f'"$@" {redirection}', sys.executable, "-c", GUARDED + code)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_file_never_gets_the_number_of_a_stream_that_was_closed(closed: str, tmp_path: Path) -> None:
    code = f"""
file = open({str(tmp_path / "data")!r}, "w")
print("to nobody"); print("to nobody", file=sys.stderr); os.write(1, b"raw"); os.write(2, b"raw")
assert file.fileno() > 2 and sys.stdin is not None
flush_streams()
file.write("data"); file.close()
open({str(tmp_path / "done")!r}, "w").close()
"""
    done = python(closed, code)
    assert (tmp_path / "done").exists(), done
    assert (tmp_path / "data").read_text() == "data"
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_read_enough_is_no_news() -> None:
    code = (
        "[print('x' * 80) for _ in range(100_000)]\n"
        "closed = is_output_closed(); flush_streams(); os._exit(7 if closed else 8)"
    )
    done = shell('"$@" | head -1; exit ${PIPESTATUS[0]}', sys.executable, "-c", GUARDED + code)
    assert done.returncode == 7
    assert done.stdout == "x" * 80 + "\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "said"), [(f"> {FULL}", True), (f"2> {FULL}", False), (f"> {FULL} 2>&1", False)]
)
def test_a_full_device_is_said_where_it_can_be(redirection: str, said: bool) -> None:
    done = python(redirection, "print('x'); print('y', file=sys.stderr); flush_streams(); os._exit(5)")
    assert done.returncode == 5
    assert ("standard output could not be written: no space left on device" in done.stderr) == said
    assert "Traceback" not in done.stderr


def test_names_that_the_encoding_does_not_know_are_written_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARDED + "print('größe \\udcff'); flush_streams()"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"gr\\xf6\\xdfe \\udcff\n"


def test_libraries_are_kept_quiet_in_every_way_they_have() -> None:
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
    done = python("", code)
    assert done.stderr.splitlines() == ["ours", "native after", "after"]
    assert done.stdout.splitlines() == ["events", "result"]


COMMANDS = {">&-": "status", "2>&-": "verify", ">&- 2>&- <&-": "verify --json", f"> {FULL}": "status --json"}
"""Each with another one: a process takes a second."""


@pytest.mark.parametrize(("redirection", "command"), [*COMMANDS.items(), ("| head -c 1", "models")])
def test_commands_end_as_they_would_whatever_becomes_of_their_output(
    redirection: str, command: str, tmp_path: Path
) -> None:
    store, plan = planned(tmp_path, 4)
    commit(started(store, plan.rows), 0, 4)
    name, *flags = command.split()
    given = [sys.executable, "-m", "cvbatch", name, *([store.root] if name != "models" else []), *flags]
    expected = 1 if name == "verify" else 0  # the run was never finished
    done = shell(f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', *given)
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_wrong_request_is_one_even_if_nobody_hears_of_it(tmp_path: Path) -> None:
    done = shell('"$@" >&- 2>&-', sys.executable, "-m", "cvbatch", "status", str(tmp_path / "none"))
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("ending", "told"), [("os._exit(1)", True), ("os.kill(os.getpid(), 9)", True), ("pass", False)]
)
def test_an_end_from_outside_is_told(ending: str, told: bool) -> None:
    done = python("", f"with report_if_killed('ended'), quiet_libraries():\n    {ending}\nos._exit(0)")
    assert ("cvbatch: ended\n" in done.stderr) == told
