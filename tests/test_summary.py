"""What a run amounts to, from its log and its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.schema import predictions_schema
from cvbatch.summary import status, summarise
from cvbatch.writing.files import WriteJob, write_blocks
from cvbatch.writing.log import Log
from cvbatch.writing.store import LocalStore
from tests.samples import block, commit, planned, spec, started


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, Log]:
    store, _ = planned(tmp_path, 12)
    log = started(store, 12)
    labels = ["cat", "dog", None, "cat"]
    rows = block(0, 4, failed=[2], classification_label=labels)
    job = WriteJob(store.root, log.epoch, predictions_schema(spec().fields()))
    log.commit(write_blocks(job, [rows]).files)
    return store, log


def test_a_summary_names_failed_images_and_counts_labels(run: tuple[LocalStore, Log]) -> None:
    store, log = run
    summary = summarise(store.root, log.state)
    assert (summary["rows"], summary["rows_planned"], summary["ok"]) == (4, 12, 3)
    assert summary["errors"] == {"TruncatedImage": 1}
    assert [failed["row_id"] for failed in summary["failed"]] == [2]
    assert summary["top_labels"] == {"classification": {"cat": 2, "dog": 1}}
    assert summary["finished"] is False


def test_a_status_is_that_of_the_newest_start(run: tuple[LocalStore, Log]) -> None:
    store, _ = run
    second = started(store, 12)
    commit(second, 4, 10)
    found = status(store.root, second)
    assert (found["rows"], found["to_go"], found["starts"]) == (10, 2, 2)
    assert found["held"] is True
    seconds = second.state.last["time"] - second.state.opened[-1]  # type: ignore[index]  # there is a record
    assert found["rate"] == pytest.approx(6 / seconds)
    assert found["seconds_left"] == pytest.approx(2 / found["rate"])


def test_a_status_before_the_first_start(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 3)
    found = status(store.root, Log(store, plan.rows))
    assert (found["rows"], found["rate"], found["seconds_left"], found["held"]) == (0, 0.0, None, False)
    assert found["holder"] == "nobody holds it"
