"""Files are written by threads of the driver or by tasks; `integration` tests isolated images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.ray_tasks import FileWriters
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.errors import FencedError
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.store import LocalStore
from cvbatch.tuning.certificate import TuningResult
from tests.samples import block, planned, spec, started


@dataclass
class Bundle:
    """The part of Ray Data's bundle that writers use."""

    block_refs: Sequence[Any]

    @classmethod
    def of(cls, low: int, high: int) -> Bundle:
        return cls([ray.put(block(low, high))])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return planned(tmp_path, 12)[0]


@pytest.fixture(params=[True, False], ids=["threads", "tasks"])
def local(request: pytest.FixtureRequest, attached: None) -> bool:
    return bool(request.param)


Start = Callable[..., FileWriters]


@pytest.fixture
def start(store: LocalStore, local: bool) -> Start:
    """Writers of an attempt that has just opened the log."""
    cluster = Cluster((ClusterNode("10.0.0.1", 4),), local=local, object_store_bytes=1 << 30)
    pools = allocate_resources(cluster, ComputeConfig(), [spec()], 12, TuningResult(REFERENCE, ""))

    def made(**options: Any) -> FileWriters:
        return FileWriters(
            WriteContext(store.root, started(store, 12).epoch, rows_schema([spec()])), pools, local=local, **options
        )

    return made


def test_each_call_becomes_a_file(start: Start, store: LocalStore) -> None:
    writers = start()
    writers.submit_blocks([Bundle.of(0, 4), Bundle.of(4, 6)])
    writers.submit_blocks([Bundle.of(6, 12)])
    files = sorted(
        (written.files for written in writers.finished_files(timeout=None)), key=lambda files: files[0].ranges
    )
    assert [file.ranges for (file,) in files] == [((0, 6),), ((6, 12),)]
    assert pq.read_table(Path(store.root, files[0][0].path))["row_id"].to_pylist() == list(range(6))
    assert writers.finished_files(timeout=None) == []


def test_the_driver_writes_only_with_a_local_head(start: Start, local: bool) -> None:
    driver_writes = list[WriteContext]()
    writers = start(write=lambda context, blocks: driver_writes.append(context) or write_data_files(context, blocks))
    writers.submit_blocks([Bundle.of(0, 12)])
    assert len(writers.finished_files(timeout=None)) == 1
    assert len(driver_writes) == (1 if local else 0)


def test_writers_of_a_fenced_attempt_raise(start: Start) -> None:
    writers = start()
    start()
    writers.submit_blocks([Bundle.of(0, 12)])
    with pytest.raises(FencedError, match="another attempt has taken over"):
        writers.finished_files(timeout=None)


def test_finished_files_does_not_wait_by_default(start: Start) -> None:
    writers = start()
    writers.submit_blocks([Bundle.of(0, 12)])
    results = [*writers.finished_files(timeout=0), *writers.finished_files(timeout=None)]
    assert [written.files[0].ranges for written in results] == [((0, 12),)]


@pytest.mark.parametrize("local", [True], indirect=True)
def test_closed_writers_start_no_more_files(start: Start) -> None:
    began, go_on = list[int](), threading.Event()
    writers = start(write=lambda _, blocks: began.append(len(blocks)) or go_on.wait())
    for low in range(12):
        writers.submit_blocks([Bundle.of(low, low + 1)])
    writers.close()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("write"):
            thread.join()
    assert 0 < len(began) < 12
