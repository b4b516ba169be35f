"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from cvbatch.output.commit_log import CommitLog
from cvbatch.results.progress import TerminalProgress
from cvbatch.results.progress_screens import TerminalScreen
from tests.samples import commit, planned, started


@pytest.fixture
def log(tmp_path: Path) -> CommitLog:
    store, plan = planned(tmp_path, 10)
    return started(store, plan.rows)


still = partial(TerminalProgress, tick_seconds=3600)
"""It ticks only when a test says so."""


def test_without_a_terminal_progress_is_plain_lines(log: CommitLog, capsys: pytest.CaptureFixture[str]) -> None:
    with still() as terminal:
        terminal.on_planned(log.state)
        commit(log, 0, 4)
        terminal.on_committed(log.state)
    assert capsys.readouterr().err == "10 images planned, 0 done\n"


def test_quiet_prints_nothing(log: CommitLog, capsys: pytest.CaptureFixture[str]) -> None:
    with still(quiet=True) as terminal:
        terminal.on_phase("starting Ray")
        terminal.on_planned(log.state)
        terminal.on_committed(log.state)
        terminal.redraw_at(time.monotonic() + 100)
    assert capsys.readouterr() == ("", "")


def test_long_waits_are_shown_repeatedly(log: CommitLog, capsys: pytest.CaptureFixture[str]) -> None:
    with still() as terminal:
        terminal.on_phase("starting Ray")
        began = time.monotonic()
        for seconds in (1, 10, 16, 20, 25, 32, 95):
            terminal.redraw_at(began + seconds)
    assert capsys.readouterr().err.splitlines() == ["starting Ray, 16 s", "starting Ray, 32 s", "starting Ray, 2 min"]


def test_waits_for_a_slow_model_are_shown_before_and_after_the_first_commit(
    log: CommitLog, capsys: pytest.CaptureFixture[str]
) -> None:
    with still() as terminal:
        terminal.on_phase("loading the models and working on the first images")
        terminal.on_planned(log.state)
        terminal.redraw_at(time.monotonic() + 16)
        commit(log, 0, 1)
        terminal.on_committed(log.state)
        terminal.redraw_at(time.monotonic() + 40)
    assert capsys.readouterr().err.splitlines() == [
        "10 images planned, 0 done",
        "0 of 10 rows; loading the models and working on the first images, 16 s",
        "1 of 10 rows; working on the next images, 40 s",
    ]


def test_a_terminal_shows_the_wait_beside_the_bar(log: CommitLog) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with still(console=screen) as terminal:
        terminal.on_phase("starting Ray")
        terminal.redraw_at(time.monotonic() + 5)
        assert isinstance(terminal.screen, TerminalScreen)
        assert terminal.screen.status is not None
        assert terminal.screen.status.status == "starting Ray, 5 s"
        terminal.on_phase("loading the models")
        terminal.on_planned(log.state)
        terminal.redraw_at(time.monotonic() + 20)
        assert terminal.screen.bar is not None
        assert terminal.screen.bar.tasks[0].fields["waits"] == "loading the models, 20 s"
        commit(log, 0, 1)
        terminal.on_committed(log.state)
        assert terminal.screen.bar.tasks[0].fields["waits"] == ""


def test_nothing_is_shown_after_the_end(log: CommitLog, capsys: pytest.CaptureFixture[str]) -> None:
    with still() as terminal:
        terminal.on_phase("starting Ray")
    terminal.redraw_at(time.monotonic() + 100)
    assert capsys.readouterr().err == ""
