"""One attempt at a run: its record, its heartbeat, and reasons to stop."""

from __future__ import annotations

import time
from copy import copy
from pathlib import Path
from typing import Any, Final

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.errors import FencedError, OutputError, RunError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteResult
from cvbatch.output.lease import last_heartbeat
from cvbatch.output.manifest import SUCCESS_FILE, finish_run
from cvbatch.planning.parts import add_part, part_paths, read_plan_part
from cvbatch.runs import attempt as attempt_module
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.run_record import load_record
from cvbatch.schema import ROW_ID
from cvbatch.tuning.certificate import REFERENCE, TuningResult
from tests.engines import FakeEngine
from tests.samples import commit, planned, spec, started, write

ROWS: Final = 40
CLUSTER: Final = Cluster((ClusterNode("10.0.0.1", 4),), local=True, object_store_bytes=1 << 30)


class AttemptSetup:
    """A plan, a log and an engine for attempts."""

    def __init__(self, folder: Path) -> None:
        self.store, self.plan = planned(folder, ROWS)
        self.log = CommitLog(self.store, ROWS)
        self.engine = FakeEngine(self.store.root)

    def attempt(self, **compute: Any) -> RunAttempt:
        return RunAttempt(self.log, self.plan, self.engine, ComputeConfig(**compute))

    def commit_rows(self, attempt: RunAttempt, low: int, high: int, *, failed: range = range(0)) -> None:
        """Write and commit rows, of which those in `failed` are errors."""
        files = write(self.log, low, high, failed=failed)
        attempt.record_commit([WriteResult(files, {}, 0)], self.log.commit_files(files))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AttemptSetup:
    monkeypatch.setenv("CVBATCH_ERROR_SHARE_ROWS", "20")
    return AttemptSetup(tmp_path)


def test_an_attempt_opens_the_log_and_withdraws_the_success_mark(setup: AttemptSetup) -> None:
    log = started(setup.store, ROWS)
    commit(log, 0, ROWS)
    finish_run(log)
    setup.log.refresh()
    with setup.attempt() as attempt:
        assert attempt.log.epoch == 2
        assert not setup.store.local_path(SUCCESS_FILE).exists()
        assert last_heartbeat(setup.store, setup.log.state)["epoch"] == 2
    assert last_heartbeat(setup.store, setup.log.state)["released"] is True


def test_orphan_parts_are_deleted(setup: AttemptSetup) -> None:
    (part,) = setup.plan.parts
    images = read_plan_part(setup.store, part).drop_columns([ROW_ID])
    add_part(setup.store, images, 0)  # of an attempt that died before it created a plan
    extended, changed = add_part(setup.store, images, ROWS), add_part(setup.store, images, 0)
    log = started(setup.store, ROWS)
    log.extend_plan([extended], complete=True, changed=[{"path": changed["path"], "ranges": [[0, ROWS]]}])
    setup.log.refresh()
    with setup.attempt():
        late = add_part(setup.store, images, 2 * ROWS)
    assert part_paths(setup.store) == {part["path"] for part in (part, extended, changed, late)}


def test_parts_of_a_later_attempt_stay(setup: AttemptSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = setup.plan.parts
    images = read_plan_part(setup.store, part).drop_columns([ROW_ID])
    newer, delete_orphan_parts = CommitLog(setup.store, ROWS), attempt_module.delete_orphan_parts
    newer_paths = set[str]()

    def open_newer_epoch(*arguments: Any) -> None:
        newer.refresh()
        newer.open_epoch()
        newer_paths.add(add_part(setup.store, images, ROWS)["path"])
        delete_orphan_parts(*arguments)

    monkeypatch.setattr(attempt_module, "delete_orphan_parts", open_newer_epoch)
    with setup.attempt():
        assert part_paths(setup.store) == {part["path"], *newer_paths}


def test_an_attempt_that_cannot_open_the_log_changes_nothing(setup: AttemptSetup) -> None:
    log = started(setup.store, ROWS)
    commit(log, 0, ROWS)
    finish_run(log)
    started(setup.store, ROWS)
    mark, attempt = setup.store.read_object(SUCCESS_FILE), setup.attempt()
    with pytest.raises(OutputError, match="another attempt"), attempt:
        pytest.fail("the attempt must not start")
    assert setup.store.read_object(SUCCESS_FILE) == mark
    assert load_record(setup.store) == {}


@pytest.mark.parametrize(
    "error", [RunError("the disk is full", "all of it"), KeyboardInterrupt(), OutputError("read-only"), None], ids=repr
)
def test_the_run_record_has_the_error_that_stopped_the_attempt(
    setup: AttemptSetup, error: BaseException | None
) -> None:
    def work() -> None:
        with setup.attempt() as attempt:
            setup.commit_rows(attempt, 0, 4, failed=range(2, 3))
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    record = load_record(setup.store)
    assert (record["rows_this_start"], record["rows_committed"], record["errors"]) == (4, 4, {"TruncatedImage": 1})
    assert (record["stopped_by"] or {}).get("type") == (type(error).__name__ if error else None)
    assert last_heartbeat(setup.store, setup.log.state)["released"] is True


def test_a_fenced_attempt_does_not_overwrite_the_newer_run_record(setup: AttemptSetup) -> None:
    newer = copy(setup)

    def old() -> None:
        with setup.attempt() as attempt:
            setup.commit_rows(attempt, 0, 4)
            newer.log = CommitLog(setup.store, ROWS)
            with newer.attempt() as other:
                newer.commit_rows(other, 4, 10)
            setup.log.remove_rows([(0, 1)])

    with pytest.raises(FencedError):
        old()
    record = load_record(setup.store)
    assert (record["rows_this_start"], record["stopped_by"]) == (6, None)


def test_the_heartbeat_has_the_number_of_workers(setup: AttemptSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.02")
    setup.engine.resource_plan = allocate_resources(
        CLUSTER, ComputeConfig(num_actors=3), [spec()], ROWS, TuningResult(REFERENCE, "")
    )
    with setup.attempt() as attempt:
        before = last_heartbeat(setup.store, setup.log.state)
        files = write(setup.log, 0, 4)
        about = {f'{{"pid": {pid}}}': {"rows": 2, "seconds": 0.1} for pid in (1, 2)}
        attempt.record_commit([WriteResult(files, {}, 0, about)], setup.log.commit_files(files))
        for _ in range(1_000):
            if last_heartbeat(setup.store, setup.log.state)["workers"] == 2:
                break
            time.sleep(0.01)
        now = last_heartbeat(setup.store, setup.log.state)
    assert (before["workers"], before["workers_planned"]) == (0, 3)
    assert (now["workers"], now["workers_planned"]) == (2, 3)


def test_too_many_errors_stop_the_attempt_and_name_the_most_frequent(setup: AttemptSetup) -> None:
    with setup.attempt() as attempt:
        setup.commit_rows(attempt, 0, 19, failed=range(10))
        with pytest.raises(RunError) as caught:
            setup.commit_rows(attempt, 19, 24)
    assert str(caught.value).startswith("10 of the last 24 rows are errors, 10 of them TruncatedImage, and ")
    assert "compute.max_error_share is 0.2" in str(caught.value)
    assert len(setup.log.state.accepted) == 24, "committed rows stay committed"


@pytest.mark.parametrize(
    ("failed", "share", "stops"), [(4, 0.2, False), (5, 0.2, True), (20, 1, False), (0, 0, False), (1, 0, True)]
)
def test_the_limit_of_the_error_share(setup: AttemptSetup, failed: int, share: float, stops: bool) -> None:
    with setup.attempt(max_error_share=share) as attempt:
        if stops:
            with pytest.raises(RunError):
                setup.commit_rows(attempt, 0, 20, failed=range(failed))
        else:
            setup.commit_rows(attempt, 0, 20, failed=range(failed))


def test_errors_of_earlier_attempts_do_not_count(setup: AttemptSetup) -> None:
    log = started(setup.store, ROWS)
    commit(log, 0, 19, failed=range(19))
    setup.log.refresh()
    with setup.attempt() as attempt:
        setup.commit_rows(attempt, 19, ROWS)


def test_rows_that_are_not_accepted_do_not_count_as_errors(setup: AttemptSetup) -> None:
    with setup.attempt() as attempt:
        late = write(setup.log, 0, ROWS, failed=range(ROWS))
        attempt.record_commit([WriteResult(late, {}, 0)], [])
        setup.commit_rows(attempt, 0, ROWS, failed=range(2))
    assert load_record(setup.store)["rows_this_start"] == ROWS


def test_an_attempt_with_remaining_rows_stops_when_its_time_is_up(setup: AttemptSetup) -> None:
    with setup.attempt() as attempt:
        setup.commit_rows(attempt, 0, 30)
        attempt.check_budget()
        setup.engine.over = True
        with pytest.raises(RunError, match=r"stop_after or compute.max_cost: 30 of 40 rows are committed"):
            attempt.check_budget()
        setup.commit_rows(attempt, 30, ROWS)
        attempt.check_budget()


def test_changed_images_are_remaining_rows(setup: AttemptSetup) -> None:
    with setup.attempt() as attempt:
        setup.commit_rows(attempt, 0, ROWS)
        setup.engine.over = True
        setup.log.extend_plan([], complete=True, changed=[{"path": "a", "ranges": [[1, 2]]}])
        with pytest.raises(RunError, match=r"stopped by compute\.stop_after"):
            attempt.check_budget()


def test_the_heartbeat_describes_each_node(setup: AttemptSetup) -> None:
    busy, idle = ClusterNode("10.0.0.1", 4, host="a"), ClusterNode("10.0.0.2", 8, 1, host="b")
    setup.engine.cluster = Cluster((busy, idle), local=False, object_store_bytes=1 << 30)
    with setup.attempt() as attempt:
        files = write(setup.log, 0, 10)
        workers = {'{"host": "a", "pid": 1}': {"rows": 10, "seconds": 1.0}}
        attempt.record_commit([WriteResult(files, {}, 0, workers)], setup.log.commit_files(files))
        nodes = attempt._heartbeat_facts()["nodes"]
    assert [(node["host"], node["cpus"], node["gpus"], node["predicting"], node["rows"]) for node in nodes] == [
        ("a", 4, 0, 1, 10),
        ("b", 8, 1, 0, 0),
    ]
