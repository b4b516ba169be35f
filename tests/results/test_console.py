"""What a person sees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cvbatch.models.resolve import list_models
from cvbatch.output.commit_log import CommitLog
from cvbatch.results.console import (
    facts_table,
    format_counts,
    format_duration,
    models_table,
    plain_table,
    status_table,
    summary_table,
)
from cvbatch.results.summary import run_status
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
    "command_seconds": 48.0,
    "command_rate": 25.0,
    "busy_shares": {"decode": 0.25, "predict": 0.9},
    "idle_shares": [0.04],
    "stage_seconds": {"decode": 3.0},
    "top_labels": {"classification": {"cat": 7}},
    "output": "labels",
}


STATUS = {
    "output": "labels",
    "rows_planned": 2_000,
    "rows": 1_500,
    "to_go": 500,
    "removed": 0,
    "errors": {"EmptyFile": 2},
    "finished": False,
    "starts": 3,
    "holder": "process 7 on host",
    "held": True,
    "workers": 3,
    "workers_planned": 4,
    "busy_shares": {"decode": 0.9, "predict": 0.25},
    "idle_shares": [0.7, 0.75, 0.8],
    "nodes": [],
    "rate": 10.0,
    "seconds_left": 50.0,
    "earlier_models": [],
}


def shown(what: object, width: int = 100) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(what)
    return text.getvalue()


@pytest.fixture
def log(tmp_path: Path) -> CommitLog:
    store, plan = planned(tmp_path, 10)
    return started(store, plan.rows)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.14, "3.1 s"), (59.9, "59.9 s"), (125, "2 min"), (3 * 3600 + 300, "3 h 05 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_counts_have_the_most_frequent_first() -> None:
    assert format_counts({"c": 1, "a": 1, "b": 2_000}) == "b 2,000, a 1, c 1"
    assert format_counts({}) == "none"


def test_the_summary_names_what_failed() -> None:
    text = shown(summary_table(SUMMARY))
    for part in (
        "1,200",
        "EmptyFile 2",
        "/photos/a.jpg: 0 bytes",
        ".xmp 3",
        "48.0 s, 25.0 images/s",
        "30.0 s, 40.0 images/s",
        "cat 7",
    ):
        assert part in text


def test_the_time_of_the_whole_command_comes_first() -> None:
    rows = [line.split("│")[1].strip() for line in shown(summary_table(SUMMARY)).splitlines() if "│" in line]
    assert rows.index("the whole command") + 1 == rows.index("since Ray was ready")
    earlier = {name: value for name, value in SUMMARY.items() if not name.startswith("command_")}
    assert "the whole command" not in shown(summary_table(earlier))


def test_a_status_shows_progress_and_workers() -> None:
    text = shown(status_table(STATUS))
    for part in (
        "labels",
        "running, 3 attempt(s), the last by process 7 on host",
        "1,500 of 2,000, 500 to go",
        "EmptyFile 2",
        "10.0 images/s, 50.0 s left",
        "3 of 4 processes in the last minutes",
    ):
        assert part in text
    assert "removed from the source" not in text


@pytest.mark.parametrize(
    ("change", "expected", "absent"),
    [
        ({"held": False}, "not running, 3 attempt(s)", ("left", "processes")),
        ({"finished": True, "held": False}, "finished, 3 attempt(s)", ("left", "processes")),
        ({"removed": 1_200}, "removed from the source │ 1,200", ()),
        (
            {"earlier_models": [{"models": {"classification": "resnet50"}, "until": "2026-11-29T10:00:00+00:00"}]},
            "models until 2026-11-29T10:00:00+00:00 │ classification (resnet50)",
            (),
        ),
        ({"rate": 0.0, "seconds_left": None}, "0.0 images/s", ("left",)),
        ({"workers": None, "workers_planned": None}, "running", ("processes", "None")),
        ({"workers": 0, "workers_planned": 4}, "0 of 4 processes in the last minutes", ()),
        ({"errors": {}}, "none", ("EmptyFile",)),
    ],
    ids=lambda value: str(value),
)
def test_a_status_leaves_out_what_does_not_apply(
    change: dict[str, Any], expected: str, absent: tuple[str, ...]
) -> None:
    text = shown(status_table({**STATUS, **change}))
    assert expected in text
    assert not [word for word in absent if word in text]


def test_the_result_of_run_status_can_be_shown(log: CommitLog) -> None:
    commit(log, 0, 4, failed=[2])
    log.remove_rows([(1, 2)])
    text = shown(status_table(run_status(log.store.root, log)))
    for part in ("running, 1 attempt(s)", "4 of 10, 6 to go", "TruncatedImage 1", "removed from the source"):
        assert part in text


def test_the_bottleneck_is_named() -> None:
    text = shown(summary_table(SUMMARY))
    assert "predict (at work since the first commit: decode 25%, predict 90%)" in text
    assert "4%" in text
    text = shown(status_table(STATUS))
    assert "decode (at work" in text
    assert "70% to 80% of 3 processes" in text
    assert "predict idle" not in shown(status_table({**STATUS, "busy_shares": {}, "idle_shares": []}))


def test_paths_in_the_current_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_status_lists_idle_nodes_first() -> None:
    about = {"address": "10.0.0.1", "cpus": 4.0, "gpus": 0.0, "predicting": 1, "rows": 1_200, "idle_share": 0.1}
    nodes = [
        {**about, "host": "busy"},
        {**about, "host": "bored", "address": "10.0.0.2", "idle_share": 0.6, "gpus": 2.0},
        {**about, "host": "unused", "address": "10.0.0.3", "predicting": 0, "rows": 0, "idle_share": None},
    ]
    text = shown(status_table({**STATUS, "nodes": nodes}), 120)
    unused, bored, busy = (text.index(name) for name in ("unused (", "bored (", "busy ("))
    assert unused < bored < busy
    assert "unused (10.0.0.3): 4 CPUs, predicts nothing" in text
    assert "bored (10.0.0.2): 4 CPUs, 2 GPUs, 1 predicting, 1,200 rows, idle 60%" in text
    assert "nodes" not in shown(status_table({**STATUS, "nodes": nodes[:1]})), "of a single one there is nothing to say"


def test_names_are_shown_as_they_are() -> None:
    name = "[b]/x[/u].jpg"
    with io.StringIO() as file:
        console = Console(file=file, width=100)
        console.print(facts_table([("file", name)], title=name))
        console.print(plain_table(("n",), ("file",), [("1", name)], name))
        assert file.getvalue().count(name) == 4
