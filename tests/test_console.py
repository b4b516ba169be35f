"""What a person sees."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cvbatch.console import Terminal, counts, duration, models_table, summary_table
from cvbatch.models.registry import list_models
from cvbatch.writing.log import Log
from tests.samples import commit, planned, started

SUMMARY = {
    "rows": 1_200,
    "errors": {"EmptyFile": 2},
    "failed": [{"image_uri": "/photos/a.jpg", "error_message": "0 bytes"}],
    "skipped": {".xmp": 3},
    "unreadable": [],
    "rows_this_start": 1_200,
    "rate": 40.0,
    "seconds": 30.0,
    "busy_shares": {"decode": 0.25, "predict": 0.9},
    "stage_seconds": {"decode": 3.0},
    "top_labels": {"classification": {"cat": 7}},
    "output": "labels",
}


def shown(what: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


@pytest.fixture
def log(tmp_path: Path) -> Log:
    store, plan = planned(tmp_path, 10)
    return started(store, plan.rows)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.14, "3.1 s"), (59.9, "59.9 s"), (125, "2 min"), (3 * 3600 + 300, "3 h 05 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_counts_put_the_most_frequent_first() -> None:
    assert counts({"c": 1, "a": 1, "b": 2_000}) == "b 2,000, a 1, c 1"
    assert counts({}) == "none"


def test_the_summary_names_what_failed() -> None:
    text = shown(summary_table(SUMMARY))
    for part in ("1,200", "EmptyFile 2", "/photos/a.jpg: 0 bytes", ".xmp 3", "40.0 images/s in 30.0 s", "cat 7"):
        assert part in text


def test_paths_below_the_working_folder_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed = [{"image_uri": f"{tmp_path}/sub/a.jpg", "error_message": "0 bytes"}]
    text = shown(summary_table({**SUMMARY, "failed": failed}))
    assert "│ sub/a.jpg: 0 bytes" in text


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "embedding"])
def test_models_fit_a_terminal_of_80_columns(task: str) -> None:
    from dataclasses import asdict

    text = shown(models_table(task, map(asdict, list_models(task))), width=80)
    assert "…" not in text
    assert "efficientnet_lite0" in text


def test_elsewhere_a_plain_line(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal:
        terminal.planned(log.state)
        commit(log, 0, 4)
        terminal.committed(log.state)
    assert capsys.readouterr().err == "10 images planned, 0 done\n"


def test_quiet_is_quiet(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(quiet=True) as terminal:
        terminal.planned(log.state)
        terminal.committed(log.state)
    assert capsys.readouterr() == ("", "")
