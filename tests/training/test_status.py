"""What `cvbatch status` says about trainings that run, were interrupted, or are finished."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from cvbatch.cli.parser import main
from cvbatch.errors import OutputError
from cvbatch.output.lease import Heartbeat
from cvbatch.output.store import open_store
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import make_training_plan
from cvbatch.training.progress import PROGRESS, PROGRESS_FILE, TrainingProgress
from cvbatch.training.screen import TrainingScreen
from cvbatch.training.status import training_status
from cvbatch.training.wording import describe_progress
from tests.training.samples import patterns, train, train_job


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A training that is planned."""
    job = train_job(patterns(tmp_path / "patterns"), tmp_path / "out")
    make_training_plan(open_store(job.output.location), job, lambda phrase: None)
    return tmp_path / "out"


def test_a_training_that_has_not_started_and_one_that_died(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(output)]) == 0
    assert "goes on from its start" in capsys.readouterr().out
    log = TrainingLog(open_store(str(output)))
    attempt = log.open_attempt()
    row = {"epoch": 1, "loss": {"boxes": 0.5, "classes": 0.25}, "steps": 4, "rate": 0.1}
    best = {"epoch": 1, "metric": 0.5, "scores": {"top-1": 0.5, "AP": None}}
    log.append_record(attempt, "checkpoint", position=[1, 2], file="c", best=best, history=[row])
    with Heartbeat(log.store, log.state):
        assert training_status(str(output))["held"]
    assert main(["status", str(output)]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "interrupted, 1 attempt(s)" in shown
    assert "1 of 3" in shown
    assert "boxes 0.5 + classes 0.25" in shown
    assert "epoch 1: top-1 0.5000, AP unknown" in shown
    assert "from its checkpoint after 1 epochs and 2 steps" in shown


def test_a_training_at_work_says_what_it_learns_and_how_long_it_takes(output: Path) -> None:
    log = TrainingLog(open_store(str(output)))
    attempt = log.open_attempt()
    progress = TrainingProgress(
        attempt=attempt, epoch=2, epochs=3, step=7, steps=12, loss={"classes": 0.5}, seconds_remaining=90.0, waiting=0.2
    )
    with Heartbeat(log.store, log.state):
        assert training_status(str(output))["phase"] == "starting"
        log.store.put_object(PROGRESS_FILE, PROGRESS.encode_record(progress))
        status = training_status(str(output))
        other = TrainingProgress(attempt=attempt + 1, epoch=3, epochs=3, step=12, steps=12)
        log.store.put_object(PROGRESS_FILE, PROGRESS.encode_record(other))
        assert training_status(str(output))["epoch"] == 0, "the progress of another attempt says nothing"
    assert (status["epoch"], status["step"], status["steps"], status["seconds_left"]) == (2, 7, 12, 90.0)
    assert describe_progress(progress) == "epoch 2 of 3, loss classes 0.5, 0 images/s, 20% waiting for images"


def test_a_finished_training_names_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = train_job(patterns(tmp_path / "patterns"), tmp_path / "out")
    train(job)
    assert main(["status", str(tmp_path / "out"), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["finished"], status["epoch"], status["seconds_left"], status["held"]) == (True, 3, None, False)
    assert main(["status", str(tmp_path / "out"), "--watch"]) == 0
    assert "cvbatch run --model" in capsys.readouterr().out


def test_an_output_with_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no run; expected the output of cvbatch run" in capsys.readouterr().err
    with pytest.raises(OutputError, match="holds no training; expected the output of cvbatch train"):
        training_status(str(tmp_path))


@pytest.mark.parametrize("width", [60, 120])
def test_the_bar_of_a_terminal_has_room_for_epoch_loss_metric_and_time(width: int) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width, color_system=None)
    progress = TrainingProgress(
        attempt=1, epoch=2, epochs=30, step=50, steps=100, loss={"classes": 0.5, "boxes": 0.25}, scores={"AP": 0.125},
        images_per_second=12.0, seconds_remaining=75.0,
    )  # fmt: skip
    with TrainingScreen(console=console) as screen:
        screen.on_progress(progress)
        screen._bar.refresh()
    bar, details = next(
        (line, below)
        for line, below in itertools.pairwise(re.split(r"[\r\n]+", written.getvalue()))
        if "epoch 2 of 30" in line and "━" in line
    )
    assert "1 min left" in bar
    assert "loss classes 0.5 + boxes 0.25, AP 0.1250, 12 images/s" in details
