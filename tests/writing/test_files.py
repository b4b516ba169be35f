"""Write tasks: what lands in which file, and when a task must not write."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import FencedError
from cvbatch.schema import predictions_schema
from cvbatch.writing.files import MEASURES, WriteJob, Written, write_blocks
from cvbatch.writing.manifest import DATA
from cvbatch.writing.store import TEMPORARY, LocalStore
from tests.samples import block, commit, spec, started

SCHEMA = predictions_schema(spec().fields()).with_metadata({"cvbatch": json.dumps({"precision": "fp32"})})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def written(store: LocalStore, *blocks: pa.Table, epoch: int = 1, schema: pa.Schema = SCHEMA) -> Written:
    return write_blocks(WriteJob(store.root, epoch, schema), blocks)


def read(store: LocalStore, path: str) -> pa.Table:
    return pq.read_table(store.path(path))


def test_good_and_failed_rows_go_into_files_of_their_own(store: LocalStore) -> None:
    started(store, 20)
    result = written(store, block(8, 12, failed=[9, 10]), block(0, 4, failed=[3]))
    good, failed = result.files
    assert good.ranges == ((0, 3), (8, 9), (11, 12))
    assert failed.ranges == ((3, 4), (9, 11))
    assert (dict(good.errors), dict(failed.errors)) == ({}, {"TruncatedImage": 3})
    assert read(store, good.path)["row_id"].to_pylist() == [0, 1, 2, 8, 11]
    assert set(read(store, failed.path)["status"].to_pylist()) == {"error"}
    assert {file.path: file.size for file in result.files} == store.sizes(DATA)
    assert all(file.epoch == 1 for file in result.files)


def test_measures_are_summed_and_not_written(store: LocalStore) -> None:
    started(store, 20)
    result = written(store, block(0, 4), block(4, 6))
    assert result.measures["decode"] == 3.0
    assert set(result.measures) == {"decode", "write"}
    assert not [name for name in read(store, result.files[0].path).column_names if name.startswith(MEASURES)]


def test_files_carry_the_schema_and_its_metadata(store: LocalStore) -> None:
    started(store, 20)
    [file] = written(store, block(0, 2)).files
    schema = pq.read_schema(store.path(file.path))
    assert schema.equals(SCHEMA)
    assert json.loads(schema.metadata[b"cvbatch"]) == {"precision": "fp32"}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([86_400, None], pa.duration("s")),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([0, None], pa.timestamp("us", "Europe/Berlin")),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array(["a", None], pa.large_string()),
        pa.nulls(2),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_a_manifest_keep_their_types(store: LocalStore, column: pa.Array) -> None:
    started(store, 20)
    schema = predictions_schema(spec().fields(), carried=[pa.field("mine", column.type)])
    [file] = written(store, block(0, 2).append_column("mine", column), schema=schema).files
    found = read(store, file.path)["mine"]
    assert (found.type, found.to_pylist()) == (column.type, column.to_pylist())


def test_nothing_to_write(store: LocalStore) -> None:
    started(store, 20)
    assert written(store, block(0, 0)) == Written((), {}, 0)
    assert written(store) == Written((), {}, 0)


def test_names_are_never_used_twice(store: LocalStore) -> None:
    started(store, 20)
    names = {file.path for _ in range(3) for file in written(store, block(0, 2)).files}
    assert len(names) == 3


def test_a_task_of_an_older_start_writes_nothing(store: LocalStore) -> None:
    started(store, 20)
    started(store, 20)
    with pytest.raises(FencedError, match="another start has taken over"):
        written(store, block(0, 2))
    assert store.sizes(DATA) == store.sizes(TEMPORARY) == {}


def test_a_task_that_comes_after_final_writes_nothing(store: LocalStore) -> None:
    log = started(store, 2)
    commit(log, 0, 2)
    log.finalise()
    with pytest.raises(FencedError):
        written(store, block(0, 2))
    assert len(store.sizes(DATA)) == 1


def test_a_task_without_a_log_writes_nothing(store: LocalStore) -> None:
    with pytest.raises(FencedError):
        written(store, block(0, 2))


def test_the_log_is_read_after_the_work_and_before_the_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started(store, 20)
    work = pq.write_table

    def slow(*arguments: object, **options: object) -> None:
        work(*arguments, **options)
        started(store, 20)  # the takeover happens while the rows are encoded

    monkeypatch.setattr(pq, "write_table", slow)
    with pytest.raises(FencedError):
        written(store, block(0, 2))
    assert store.sizes(DATA) == {}
