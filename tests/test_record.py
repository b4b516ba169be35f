"""The run record."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.compute.cluster import Cluster
from cvbatch.compute.sizing import size_pools
from cvbatch.config import ComputeConfig
from cvbatch.errors import RunError
from cvbatch.record import Record, load_record
from cvbatch.versions import versions
from cvbatch.writing.files import Written
from tests.samples import planned, spec, started, write

CLUSTER = Cluster(cpus=4, gpus=0, nodes=1, local=True, object_store_bytes=1 << 30)


def test_it_says_what_ran_and_how_long(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 10)
    log = started(store, 10)
    files = write(log, 0, 4, failed=[1])
    log.commit(files)
    record = Record()
    record.add(Written(files, {"decode": 2.0}, image_bytes=600), rows=4)
    record.save(store, plan, log.state, CLUSTER, size_pools(CLUSTER, ComputeConfig(), [spec()], 10))

    found = load_record(store)
    assert (found["rows_this_start"], found["rows_committed"], found["rows_planned"]) == (4, 4, 10)
    assert found["errors"] == {"TruncatedImage": 1}
    assert found["stage_seconds"] == {"decode": 2.0}
    assert (found["bytes_read"], found["bytes_written"]) == (600, sum(file.size for file in files))
    assert found["models"][0]["categories"] == 3
    assert found["versions"] == versions()
    assert found["precision"] == "fp32"
    assert found["stopped_by"] is None


def test_it_says_what_stopped_the_run(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 2)
    log = started(store, 2)

    def fail() -> None:
        try:
            raise RunError("the disk is full", details="all that Ray knows")
        finally:
            Record().save(store, plan, log.state, CLUSTER, None)

    with pytest.raises(RunError):
        fail()
    stopped = {"type": "RunError", "message": "the disk is full", "details": "all that Ray knows"}
    assert load_record(store)["stopped_by"] == stopped


def test_there_is_none_yet(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 1)
    assert load_record(store) == {}
