"""A run that dies is restarted, unless it needs a decision first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cvbatch.cli.common import stop_on_signals
from cvbatch.errors import CorruptionError, CvbatchError, FencedError, HaltError, RunError, UsageError
from cvbatch.runs import supervisor as supervisor_module
from cvbatch.runs.supervisor import exit_code_of_error, run_supervised
from tests.rigs.containers import Machine

COUNTS = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
starts = len(file.read_text()) if file.exists() else 0
file.write_text("x" * (starts + 1))
"""


class SupervisedCommand:
    """A command that counts its starts, under supervision."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "starts"
        self.system = Machine(folder)
        self.lines: list[str] = []

    def run(self, code: str, retries: int) -> int:
        command = [sys.executable, "-c", COUNTS + code, str(self._file)]
        return run_supervised(command, retries, self.lines.append, pauses=(0.0, 0.0), root=self.system.root)

    @property
    def starts(self) -> int:
        return len(self._file.read_text())


@pytest.fixture
def supervised(tmp_path: Path) -> SupervisedCommand:
    return SupervisedCommand(tmp_path)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_a_command_that_ended_is_not_restarted(supervised: SupervisedCommand, code: int) -> None:
    assert supervised.run(f"sys.exit({code})", 3) == code
    assert (supervised.starts, supervised.lines) == (1, [])


def test_a_failed_command_is_restarted_until_it_ends(supervised: SupervisedCommand) -> None:
    assert supervised.run("sys.exit(1 if starts < 2 else 0)", 3) == 0
    assert supervised.starts == 3
    assert supervised.lines[0] == "the run did not finish; it restarts in 0 s, attempt 2 of at most 4"


def test_a_killed_command_is_restarted(supervised: SupervisedCommand) -> None:
    assert supervised.run("import os; starts or os.kill(os.getpid(), 9); sys.exit(3)", 1) == 3
    assert supervised.lines == ["the run was ended by SIGKILL; it restarts in 0 s, attempt 2 of at most 2"]


def test_a_command_killed_for_memory_is_restarted_a_few_times(supervised: SupervisedCommand) -> None:
    supervised.system.second("/", memory_max="1000000000", memory_events="oom_kill 40")
    events = supervised.system.root / "sys/fs/cgroup/memory.events"
    kernel = f"pathlib.Path({str(events)!r}).write_text(f'oom_kill {{41 + starts}}')"
    assert supervised.run(f"{kernel}; import os; os.kill(os.getpid(), 9)", 9) == 1
    assert supervised.starts == 3
    assert supervised.lines[0].startswith(
        "the run was killed because its container has only 1.0 GB of memory; it restarts"
    )
    assert supervised.lines[-1] == "the run was killed for memory 3 times in a row; give the container more than 1.0 GB"


@pytest.mark.parametrize("ignored", [True, False])
def test_a_closed_terminal_ends_the_run_unless_hangup_is_ignored(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert (signal.SIGHUP in supervisor_module.ending_signals()) != ignored
        with stop_on_signals("stopped"):
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hangup_is_an_interruption() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(RunError, match="stopped"), stop_on_signals("stopped"):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("ending", ["sys.exit(1)", "import os; os.kill(os.getpid(), 9)"])
def test_restarts_are_limited(supervised: SupervisedCommand, ending: str) -> None:
    assert supervised.run(ending, 2) == 1
    assert supervised.starts == 3


def test_the_final_exit_code_prevents_a_restart(supervised: SupervisedCommand) -> None:
    assert supervised.run(f"sys.exit({supervisor_module._FINAL_EXIT_CODE})", 3) == 1, (
        "only the supervisor sees that code"
    )
    assert supervised.starts == 1


@pytest.mark.parametrize(
    ("error", "alone", "under_supervisor"),
    [
        (RunError("a process died"), 1, 1),
        (FencedError("another start"), 1, 4),
        (HaltError("time is up"), 1, 4),
        (CorruptionError("a file is gone"), 1, 4),
        (UsageError("no images"), 2, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_allow_a_restart(
    monkeypatch: pytest.MonkeyPatch, error: CvbatchError, alone: int, under_supervisor: int
) -> None:
    assert exit_code_of_error(error) == alone
    monkeypatch.setenv(supervisor_module._SUPERVISOR_VARIABLE, str(os.getppid()))
    assert exit_code_of_error(error) == under_supervisor
    monkeypatch.setenv(supervisor_module._SUPERVISOR_VARIABLE, str(os.getpid()))
    assert exit_code_of_error(error) == alone, "the variable names another supervisor"


@pytest.mark.parametrize("given", [["--retries", "2"], ["--retries=2"], ["--retr", "2"]], ids=" ".join)
def test_every_spelling_of_retries_starts_one_supervisor(tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOTES)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "cvbatch", "run", "--source", "nowhere", "--model", "resnet50", "--output", "out"]
    done = subprocess.run([*command, *given], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert done.returncode == 2
    assert len((tmp_path / "started").read_text()) == 2, "the supervisor and the run"


NOTES = """
import os, sys
if "cvbatch" in sys.orig_argv:
    with open("started", "a") as file:
        file.write("x")
    if os.path.getsize("started") > 5:
        os._exit(9)
"""

SUPERVISOR = """
import sys
from cvbatch.runs.supervisor import end_with_supervisor, run_supervised
child = '''
import pathlib, signal, sys, time
from cvbatch.runs.supervisor import end_with_supervisor
end_with_supervisor()
folder = pathlib.Path(sys.argv[1])
def end(number, _):
    (folder / "ended").write_text(str(number))
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
with (folder / "starts").open("a") as file:
    file.write("x")
time.sleep(60)
'''
sys.exit(run_supervised([sys.executable, "-c", child, sys.argv[1]], 5, print))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_stopping_the_supervisor_stops_the_run(tmp_path: Path, number: signal.Signals) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)])
    try:
        wait_for(tmp_path / "starts")
        supervisor.send_signal(number)
        assert supervisor.wait(timeout=30) == (1 if number == signal.SIGTERM else -number)
        wait_for(tmp_path / "ended")
    finally:
        supervisor.kill()
        supervisor.wait()
    assert (tmp_path / "ended").read_text() == str(int(signal.SIGTERM)), (
        "the run gets a chance to commit, and is not restarted"
    )
    assert (tmp_path / "starts").read_text() == "x"


SIGNALLED_TWICE = """
import sys
from cvbatch.runs.supervisor import run_supervised
child = '''
import pathlib, sys, time
from cvbatch.cli.common import stop_on_signals
from cvbatch.errors import RunError
folder = pathlib.Path(sys.argv[1])
try:
    with stop_on_signals("stopped"):
        try:
            (folder / "starts").write_text("x")
            time.sleep(60)
        finally:
            time.sleep(0.5)
            (folder / "committed").write_text("x")
except RunError:
    sys.exit(1)
'''
sys.exit(run_supervised([sys.executable, "-c", child, sys.argv[1]], 5, print))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_gets_a_signal_twice_commits(tmp_path: Path, number: signal.Signals) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SIGNALLED_TWICE, str(tmp_path)], start_new_session=True)
    try:
        wait_for(tmp_path / "starts")
        os.killpg(supervisor.pid, number)  # as a terminal and Ray's Job API do
        assert supervisor.wait(timeout=30) == 1
    finally:
        supervisor.kill()
        supervisor.wait()
    assert (tmp_path / "committed").exists()


def test_a_signal_during_the_start_of_the_run_ends_it(
    supervised: SupervisedCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def signal_during_start(*arguments: Any, **options: Any) -> Any:
        child = start(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return child

    monkeypatch.setattr(subprocess, "Popen", signal_during_start)
    assert supervised.run("import time; time.sleep(60); sys.exit(3)", 2) == 1


def wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists() and os.path.getsize(file):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{file.name} did not come")
