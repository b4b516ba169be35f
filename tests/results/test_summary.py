"""What a run amounts to, from its log and its rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import RowError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.lease import LEASE_FILE, Heartbeat, describe_process
from cvbatch.output.manifest import complete_finish
from cvbatch.output.store import LocalStore
from cvbatch.results.summary import exit_code_of_summary, run_status, summarize_run
from cvbatch.runs.run_record import RUN
from cvbatch.schema import predictions_schema
from tests.samples import block, commit, planned, spec, started, write


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, CommitLog]:
    store, _ = planned(tmp_path, 12)
    log = started(store, 12)
    labels = ["cat", "dog", None, "cat"]
    rows = block(0, 4, failed=[2], classification_label=labels)
    job = WriteContext(store.root, log.epoch, predictions_schema(spec().column_fields()))
    log.commit_files(write_data_files(job, [rows]).files)
    return store, log


def test_a_summary_names_failed_images_and_counts_labels(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    summary = summarize_run(store.root, log.state)
    assert (summary["rows"], summary["rows_planned"], summary["ok"]) == (4, 12, 3)
    assert summary["errors"] == {"TruncatedImage": 1}
    assert [failed["row_id"] for failed in summary["failed"]] == [2]
    assert summary["top_labels"] == {"classification": {"cat": 2, "dog": 1}}
    assert summary["finished"] is False


def test_unlisted_containers_count_until_they_are_removed(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    lost = RowError("list", "DamagedArchive", "File is not a zip file")
    rows = block(4, 8, failed=[5, 6], error=lost, classification_label=["cat"] * 4)
    log.commit_files(
        write_data_files(WriteContext(store.root, log.epoch, predictions_schema(spec().column_fields())), [rows]).files
    )
    assert summarize_run(store.root, log.state)["unlisted"] == 2
    log.remove_rows([(5, 6)], [])
    assert summarize_run(store.root, log.state)["unlisted"] == 1


@pytest.mark.parametrize(
    ("facts", "strict", "code"),
    [
        ({}, True, 0),
        ({"errors": {"TruncatedImage": 1}}, False, 0),
        ({"errors": {"TruncatedImage": 1}}, True, 3),
        ({"unreadable": ["x.tar (it is cut)"]}, False, 0),
        ({"unreadable": ["x.tar (it is cut)"]}, True, 3),
        ({"errors": {"DamagedArchive": 1}, "unlisted": 1}, False, 3),
    ],
)
def test_the_exit_code_of_a_run(facts: dict[str, Any], strict: bool, code: int) -> None:
    assert exit_code_of_summary({"errors": {}, "unreadable": [], "unlisted": 0, **facts}, strict=strict) == code


def test_a_run_record_of_an_earlier_version_is_summarized(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    store.put_object(RUN, json.dumps({"seconds": 2.0, "workers": [{"host": "one", "rows": 4}]}).encode())
    assert summarize_run(store.root, log.state)["idle_shares"] == []


def test_the_summary_has_the_time_of_run_and_command(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    store.put_object(RUN, json.dumps({"seconds": 2.0, "rows_this_start": 6}).encode())
    found = summarize_run(store.root, log.state, command_seconds=12.0)
    assert (found["seconds"], found["rate"]) == (2.0, 3.0)
    assert (found["command_seconds"], found["command_rate"]) == (12.0, 0.5)
    assert summarize_run(store.root, log.state)["command_rate"] == 0.0, "not known, and not divided by"


def test_a_status_describes_the_last_attempt(run: tuple[LocalStore, CommitLog]) -> None:
    store, _ = run
    second = started(store, 12)
    commit(second, 4, 10)
    found = run_status(store.root, second)
    assert (found["rows"], found["to_go"], found["starts"]) == (10, 2, 2)
    assert found["held"] is True
    seconds = second.state.last["time"] - second.state.opened[-1]  # type: ignore[index]  # there is a record
    assert found["rate"] == pytest.approx(6 / seconds)
    assert found["seconds_left"] == pytest.approx(2 / found["rate"])


def test_a_status_before_the_first_attempt(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 3)
    found = run_status(store.root, CommitLog(store, plan.rows))
    assert (found["rows"], found["rate"], found["seconds_left"], found["held"]) == (0, 0.0, None, False)
    assert (found["removed"], found["workers"], found["workers_planned"]) == (0, None, None)
    assert found["holder"] == "no process holds it"


class Clocked:
    """A log whose records are made at times of our choosing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        self.store, _ = planned(folder, rows)
        self.now = 10_000.0
        monkeypatch.setattr("time.time", lambda: self.now)
        self.log = started(self.store, rows)

    def commit(self, after: float, low: int, high: int) -> None:
        self.now += after
        commit(self.log, low, high)

    @property
    def status(self) -> dict[str, Any]:
        return run_status(self.store.root, self.log)


@pytest.fixture
def clocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocked:
    return Clocked(tmp_path, monkeypatch, 1_000)


def test_the_rate_is_that_of_the_last_minutes(clocked: Clocked) -> None:
    clocked.commit(60, 0, 60)
    assert clocked.status["rate"] == 1, "there is nothing else to go by"
    clocked.commit(10, 60, 100)
    clocked.commit(10, 100, 200)
    assert clocked.status["rate"] == 7, "140 rows in 20 s; the first commit came with the start"
    clocked.commit(1_000, 200, 210)
    clocked.commit(50, 210, 460)
    found = clocked.status
    assert (found["rate"], found["seconds_left"]) == (5, 108), "what was long ago does not count"


def test_the_rate_is_that_of_the_last_attempt(clocked: Clocked) -> None:
    clocked.commit(1, 0, 500)
    clocked.commit(1, 500, 900)
    clocked.now += 10
    clocked.log = started(clocked.store, 1_000)
    assert (clocked.status["rate"], clocked.status["seconds_left"]) == (0, None)
    clocked.commit(10, 900, 910)
    assert clocked.status["rate"] == 1


def test_recomputed_rows_count_for_the_rate_and_copied_rows_do_not(clocked: Clocked) -> None:
    clocked.commit(10, 0, 500)
    [old] = clocked.log.state.files
    clocked.now += 10
    clocked.log.replace_files([old], write(clocked.log, 0, 500), [(0, 20)])
    assert clocked.status["rate"] == 2


def test_rows_of_changed_images_are_remaining(clocked: Clocked) -> None:
    clocked.commit(10, 0, 900)
    clocked.commit(10, 900, 950)
    clocked.log.extend_plan([], complete=True, changed=[{"path": "a", "ranges": [[20, 30], [960, 970]]}])
    found = clocked.status
    assert (found["rows"], found["to_go"]) == (950, 60), "each row once"
    assert found["seconds_left"] == 12


def test_removed_images_are_counted(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    log.remove_rows([(1, 3), (8, 9)])
    assert run_status(store.root, log)["removed"] == 3


def test_a_status_has_the_workers_of_the_holder(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    with Heartbeat(store, log.state, lambda: {"workers": 3, "workers_planned": 4}):
        found = run_status(store.root, CommitLog(store, 12))
        assert (found["workers"], found["workers_planned"], found["held"]) == (3, 4, True)
    assert run_status(store.root, CommitLog(store, 12))["held"] is False, "it has said goodbye"
    assert run_status(store.root, started(store, 12))["workers"] is None, "a newer start has said nothing yet"


@pytest.mark.parametrize(("seconds", "held"), [(1, True), (8, True), (11, False), (1_000, False)])
def test_a_holder_on_another_machine_is_judged_by_its_heartbeat(clocked: Clocked, seconds: float, held: bool) -> None:
    clocked.log = CommitLog(clocked.store, 1_000)
    clocked.log.open_epoch({**describe_process(), "host": "elsewhere"})
    assert clocked.status["held"] is False, "it has said nothing yet"
    beat = {"nonce": clocked.log.state.holder["nonce"], "epoch": 2, "time": clocked.now}  # type: ignore[index]
    clocked.store.put_object(LEASE_FILE, json.dumps(beat).encode())
    clocked.now += seconds
    found = clocked.status
    assert (found["held"], found["holder"]) == (held, f"process {os.getpid()} on elsewhere")


def test_a_dead_holder_does_not_hold_the_lease(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    log.open_epoch({**describe_process(), "started": "1"})
    with Heartbeat(store, log.state):
        assert run_status(store.root, log)["held"] is False


def test_a_run_is_finished_when_it_has_its_success_mark(run: tuple[LocalStore, CommitLog]) -> None:
    store, log = run
    commit(log, 4, 12)
    log.append_final()
    assert run_status(store.root, log)["finished"] is False
    complete_finish(log)
    found = run_status(store.root, log)
    assert (found["finished"], found["held"], found["to_go"]) == (True, False, 0)
