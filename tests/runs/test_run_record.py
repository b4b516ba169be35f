"""The run record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.errors import RunError
from cvbatch.output.data_files import WriteResult
from cvbatch.output.store import LocalStore
from cvbatch.runs.run_record import RunRecord, load_record
from cvbatch.system.versions import package_versions
from cvbatch.tuning.certificate import REFERENCE, TuningResult
from tests.samples import planned, spec, started, write

CERTIFICATE = TuningResult(REFERENCE, "because")
CLUSTER = Cluster((ClusterNode("10.0.0.1", 4),), local=True, object_store_bytes=1 << 30)


def test_the_record_has_resources_and_times(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 10)
    log = started(store, 10)
    files = write(log, 0, 4, failed=[1])
    log.commit_files(files)
    record = RunRecord()
    record.add_result([WriteResult(files, {"decode": 2.0}, image_bytes=600)], rows=4)
    record.save_record(
        store,
        plan,
        log.state,
        CLUSTER,
        allocate_resources(CLUSTER, ComputeConfig(), [spec()], 10, CERTIFICATE),
        CERTIFICATE,
        None,
    )

    found = load_record(store)
    assert (found["rows_this_start"], found["rows_committed"], found["rows_planned"]) == (4, 4, 10)
    assert found["errors"] == {"TruncatedImage": 1}
    assert found["stage_seconds"] == {"decode": 2.0}
    assert (found["bytes_read"], found["bytes_written"]) == (600, sum(file.size for file in files))
    assert found["models"][0]["categories"] == 3
    assert found["versions"] == package_versions()
    assert found["precision"] == "fp32"
    assert found["stopped_by"] is None


def test_the_record_has_the_error_that_stopped_the_run(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 2)
    log = started(store, 2)
    error = RunError("the disk is full", details="all that Ray knows")
    RunRecord().save_record(store, plan, log.state, CLUSTER, None, None, error)
    stopped = {"type": "RunError", "message": "the disk is full", "details": "all that Ray knows"}
    assert load_record(store)["stopped_by"] == stopped


def test_a_record_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    class Full(LocalStore):
        def put_object(self, name: str, data: bytes) -> None:
            raise RunError("no space left on device")

    store, plan = planned(tmp_path, 2)
    log = started(store, 2)
    RunRecord().save_record(Full(store.root), plan, log.state, CLUSTER, None, None, None)
    assert load_record(store) == {}


def work(rows: int, seconds: float, **about: Any) -> WriteResult:
    """What a write task says of rows that one process predicted."""
    return WriteResult((), {}, 0, {json.dumps(about): {"rows": rows, "seconds": seconds}})


def test_the_record_describes_each_worker(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 10)
    log = started(store, 10)
    clock = [1_000.0]
    record = RunRecord(clock=lambda: clock[0])
    record.add_result([work(4, 2.0, host="one", pid=1), work(2, 1.0, host="two", pid=2)], rows=6)
    clock[0] += 60
    record.add_result(
        [work(2, 0.5, host="one", pid=1), work(1, 1.0, host="one", pid=3, batch_sizes={"tags": 4})], rows=3
    )
    record.save_record(store, plan, log.state, CLUSTER, None, None, None)

    first, second, third = load_record(store)["workers"]
    assert (first["host"], first["pid"], first["rows"], first["seconds"]) == ("one", 1, 6, 2.5)
    assert (first["seen_first"], first["seen_last"]) == (1_000.0, 1_060.0)
    assert (second["host"], second["rows"], second["seen_last"]) == ("two", 2, 1_000.0)
    assert (third["pid"], third["batch_sizes"]) == (3, {"tags": 4})
    assert first["idle_share"] == pytest.approx(1 - 0.5 / 60), "what came at first was done before"
    assert third["idle_share"] is None
    assert record.idle_shares() == [first["idle_share"]]


def test_workers_without_recent_results_are_not_active() -> None:
    clock = [1_000.0]
    record = RunRecord(clock=lambda: clock[0])
    assert record.active_workers() == 0
    record.add_result([work(1, 1.0, pid=1)], rows=1)
    clock[0] += 100
    record.add_result([work(1, 1.0, pid=2)], rows=1)
    assert record.active_workers() == 2
    clock[0] += 100
    assert record.active_workers() == 1


def test_an_output_without_a_record(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 1)
    assert load_record(store) == {}
