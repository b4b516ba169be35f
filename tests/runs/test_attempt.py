"""One start of a run: what it says of itself, and why it stops."""

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
from cvbatch.runs import attempt as sessions
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.run_record import load_record
from cvbatch.schema import ROW_ID
from cvbatch.tuning.certificate import REFERENCE, TuningResult
from tests.engines import FakeEngine
from tests.samples import commit, planned, spec, started, write

ROWS: Final = 40
CLUSTER: Final = Cluster((ClusterNode("10.0.0.1", 4),), local=True, object_store_bytes=1 << 30)


class Start:
    """A plan and what a session needs besides."""

    def __init__(self, folder: Path) -> None:
        self.store, self.plan = planned(folder, ROWS)
        self.log = CommitLog(self.store, ROWS)
        self.engine = FakeEngine(self.store.root)

    def session(self, **compute: Any) -> RunAttempt:
        return RunAttempt(self.log, self.plan, self.engine, ComputeConfig(**compute))

    def take(self, session: RunAttempt, low: int, high: int, *, failed: range = range(0)) -> None:
        """Rows of which those in `failed` are errors, written and committed."""
        files = write(self.log, low, high, failed=failed)
        session.record_commit([WriteResult(files, {}, 0)], self.log.commit_files(files))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("CVBATCH_ERROR_SHARE_ROWS", "20")
    return Start(tmp_path)


def test_an_attempt_opens_the_log_and_withdraws_the_success_mark(start: Start) -> None:
    log = started(start.store, ROWS)
    commit(log, 0, ROWS)
    finish_run(log)
    start.log.refresh()
    with start.session() as session:
        assert session.log.epoch == 2
        assert not start.store.local_path(SUCCESS_FILE).exists()
        assert last_heartbeat(start.store, start.log.state)["epoch"] == 2
    assert last_heartbeat(start.store, start.log.state)["released"] is True


def test_orphan_parts_are_deleted(start: Start) -> None:
    (part,) = start.plan.parts
    images = read_plan_part(start.store, part).drop_columns([ROW_ID])
    add_part(start.store, images, 0)  # of a start that died before it had a plan
    extended, changed = add_part(start.store, images, ROWS), add_part(start.store, images, 0)
    log = started(start.store, ROWS)
    log.extend_plan([extended], complete=True, changed=[{"path": changed["path"], "ranges": [[0, ROWS]]}])
    start.log.refresh()
    with start.session():
        late = add_part(start.store, images, 2 * ROWS)
    assert part_paths(start.store) == {each["path"] for each in (part, extended, changed, late)}


def test_parts_of_a_later_attempt_stay(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = start.plan.parts
    images = read_plan_part(start.store, part).drop_columns([ROW_ID])
    newer, collect = CommitLog(start.store, ROWS), sessions.delete_orphan_parts
    theirs = set[str]()

    def overtaken(*arguments: Any) -> None:
        newer.refresh()
        newer.open_epoch()
        theirs.add(add_part(start.store, images, ROWS)["path"])
        collect(*arguments)

    monkeypatch.setattr(sessions, "delete_orphan_parts", overtaken)
    with start.session():
        assert part_paths(start.store) == {part["path"], *theirs}


def test_an_attempt_that_cannot_open_the_log_changes_nothing(start: Start) -> None:
    log = started(start.store, ROWS)
    commit(log, 0, ROWS)
    finish_run(log)
    started(start.store, ROWS)
    mark, session = start.store.read_object(SUCCESS_FILE), start.session()
    with pytest.raises(OutputError, match="another attempt"), session:
        pytest.fail("it is not held")
    assert start.store.read_object(SUCCESS_FILE) == mark
    assert load_record(start.store) == {}


@pytest.mark.parametrize(
    "error", [RunError("the disk is full", "all of it"), KeyboardInterrupt(), OutputError("read-only"), None], ids=repr
)
def test_the_run_record_has_the_error_that_stopped_the_attempt(start: Start, error: BaseException | None) -> None:
    def work() -> None:
        with start.session() as session:
            start.take(session, 0, 4, failed=range(2, 3))
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    record = load_record(start.store)
    assert (record["rows_this_start"], record["rows_committed"], record["errors"]) == (4, 4, {"TruncatedImage": 1})
    assert (record["stopped_by"] or {}).get("type") == (type(error).__name__ if error else None)
    assert last_heartbeat(start.store, start.log.state)["released"] is True


def test_a_fenced_attempt_does_not_overwrite_the_newer_run_record(start: Start) -> None:
    newer = copy(start)

    def old() -> None:
        with start.session() as session:
            start.take(session, 0, 4)
            newer.log = CommitLog(start.store, ROWS)
            with newer.session() as other:
                newer.take(other, 4, 10)
            start.log.remove_rows([(0, 1)])

    with pytest.raises(FencedError):
        old()
    record = load_record(start.store)
    assert (record["rows_this_start"], record["stopped_by"]) == (6, None)


def test_the_heartbeat_has_the_number_of_workers(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.02")
    start.engine.resource_plan = allocate_resources(
        CLUSTER, ComputeConfig(num_actors=3), [spec()], ROWS, TuningResult(REFERENCE, "")
    )
    with start.session() as session:
        before = last_heartbeat(start.store, start.log.state)
        files = write(start.log, 0, 4)
        about = {f'{{"pid": {pid}}}': {"rows": 2, "seconds": 0.1} for pid in (1, 2)}
        session.record_commit([WriteResult(files, {}, 0, about)], start.log.commit_files(files))
        for _ in range(1_000):
            if last_heartbeat(start.store, start.log.state)["workers"] == 2:
                break
            time.sleep(0.01)
        now = last_heartbeat(start.store, start.log.state)
    assert (before["workers"], before["workers_planned"]) == (0, 3)
    assert (now["workers"], now["workers_planned"]) == (2, 3)


def test_too_many_errors_stop_the_attempt_and_name_the_most_frequent(start: Start) -> None:
    with start.session() as session:
        start.take(session, 0, 19, failed=range(10))
        with pytest.raises(RunError) as caught:
            start.take(session, 19, 24)
    assert str(caught.value).startswith("10 of the last 24 rows are errors, 10 of them TruncatedImage, and ")
    assert "compute.max_error_share is 0.2" in str(caught.value)
    assert len(start.log.state.accepted) == 24, "what is committed stays"


@pytest.mark.parametrize(
    ("failed", "share", "stops"), [(4, 0.2, False), (5, 0.2, True), (20, 1, False), (0, 0, False), (1, 0, True)]
)
def test_the_limit_of_the_error_share(start: Start, failed: int, share: float, stops: bool) -> None:
    with start.session(max_error_share=share) as session:
        if stops:
            with pytest.raises(RunError):
                start.take(session, 0, 20, failed=range(failed))
        else:
            start.take(session, 0, 20, failed=range(failed))


def test_errors_of_earlier_attempts_do_not_count(start: Start) -> None:
    log = started(start.store, ROWS)
    commit(log, 0, 19, failed=range(19))
    start.log.refresh()
    with start.session() as session:
        start.take(session, 19, ROWS)


def test_rows_that_are_not_accepted_do_not_count_as_errors(start: Start) -> None:
    with start.session() as session:
        late = write(start.log, 0, ROWS, failed=range(ROWS))
        session.record_commit([WriteResult(late, {}, 0)], [])
        start.take(session, 0, ROWS, failed=range(2))
    assert load_record(start.store)["rows_this_start"] == ROWS


def test_an_attempt_with_remaining_rows_stops_when_its_time_is_up(start: Start) -> None:
    with start.session() as session:
        start.take(session, 0, 30)
        session.check_budget()
        start.engine.over = True
        with pytest.raises(RunError, match=r"stop_after or compute.max_cost: 30 of 40 rows are committed"):
            session.check_budget()
        start.take(session, 30, ROWS)
        session.check_budget()


def test_changed_images_are_remaining_rows(start: Start) -> None:
    with start.session() as session:
        start.take(session, 0, ROWS)
        start.engine.over = True
        start.log.extend_plan([], complete=True, changed=[{"path": "a", "ranges": [[1, 2]]}])
        with pytest.raises(RunError, match=r"stopped by compute\.stop_after"):
            session.check_budget()


def test_the_heartbeat_describes_each_node(start: Start) -> None:
    busy, idle = ClusterNode("10.0.0.1", 4, host="a"), ClusterNode("10.0.0.2", 8, 1, host="b")
    start.engine.cluster = Cluster((busy, idle), local=False, object_store_bytes=1 << 30)
    with start.session() as session:
        files = write(start.log, 0, 10)
        workers = {'{"host": "a", "pid": 1}': {"rows": 10, "seconds": 1.0}}
        session.record_commit([WriteResult(files, {}, 0, workers)], start.log.commit_files(files))
        found = session._heartbeat_facts()["nodes"]
    assert [(node["host"], node["cpus"], node["gpus"], node["predicting"], node["rows"]) for node in found] == [
        ("a", 4, 0, 1, 10),
        ("b", 8, 1, 0, 0),
    ]
