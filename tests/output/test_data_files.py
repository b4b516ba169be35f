"""Write tasks: which rows go into which file, and when a task must not write."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import CorruptionError, FencedError
from cvbatch.output.data_files import WriteContext, WriteResult, copy_unchanged_rows, write_data_files
from cvbatch.output.local_store import TEMPORARY_FOLDER, LocalStore
from cvbatch.output.manifest import DATA_FOLDER
from cvbatch.output.row_ranges import RowRanges
from cvbatch.schema import MEASURES, WORKER, predictions_schema
from tests.samples import block, commit, spec, started

SCHEMA = predictions_schema(spec().column_fields()).with_metadata({"cvbatch": json.dumps({"precision": "fp32"})})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def written(store: LocalStore, *blocks: pa.Table, epoch: int = 1, schema: pa.Schema = SCHEMA) -> WriteResult:
    return write_data_files(WriteContext(store.root, epoch, schema), blocks)


def read(store: LocalStore, path: str) -> pa.Table:
    return pq.read_table(store.local_path(path))


def test_good_rows_and_error_rows_go_into_separate_files(store: LocalStore) -> None:
    started(store, 20)
    result = written(store, block(8, 12, failed=[9, 10]), block(0, 4, failed=[3]))
    good, failed = result.files
    assert good.ranges == ((0, 3), (8, 9), (11, 12))
    assert failed.ranges == ((3, 4), (9, 11))
    assert (dict(good.errors), dict(failed.errors)) == ({}, {"TruncatedImage": 3})
    assert read(store, good.path)["row_id"].to_pylist() == [0, 1, 2, 8, 11]
    assert set(read(store, failed.path)["status"].to_pylist()) == {"error"}
    assert {file.path: file.size for file in result.files} == store.list_sizes(DATA_FOLDER)
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
    schema = pq.read_schema(store.local_path(file.path))
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
    schema = predictions_schema(spec().column_fields(), extra_columns=[pa.field("mine", column.type)])
    [file] = written(store, block(0, 2).append_column("mine", column), schema=schema).files
    restored = read(store, file.path)["mine"]
    assert (restored.type, restored.to_pylist()) == (column.type, column.to_pylist())


def test_nothing_to_write(store: LocalStore) -> None:
    started(store, 20)
    assert written(store, block(0, 0)) == WriteResult((), {}, 0)
    assert written(store) == WriteResult((), {}, 0)


def test_names_are_never_used_twice(store: LocalStore) -> None:
    started(store, 20)
    names = {file.path for _ in range(3) for file in written(store, block(0, 2)).files}
    assert len(names) == 3


def test_a_task_of_an_older_attempt_writes_nothing(store: LocalStore) -> None:
    started(store, 20)
    started(store, 20)
    with pytest.raises(FencedError, match="another attempt has taken over"):
        written(store, block(0, 2))
    assert store.list_sizes(DATA_FOLDER) == store.list_sizes(TEMPORARY_FOLDER) == {}


def test_a_task_that_comes_after_final_writes_nothing(store: LocalStore) -> None:
    log = started(store, 2)
    commit(log, 0, 2)
    log.append_final()
    with pytest.raises(FencedError):
        written(store, block(0, 2))
    assert len(store.list_sizes(DATA_FOLDER)) == 1


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
    assert store.list_sizes(DATA_FOLDER) == {}


def predicted_by(rows: pa.Table, worker: str | None, seconds: float) -> pa.Table:
    """Rows as the predict stage returns them."""
    rows = rows.append_column(f"{MEASURES}predict", pa.array([seconds] * rows.num_rows))
    return rows.append_column(WORKER, pa.array([worker] * rows.num_rows, pa.string()))


def test_measures_of_each_worker_are_summed_and_not_written(store: LocalStore) -> None:
    started(store, 20)
    blocks = [(block(0, 4), "one", 0.5), (block(4, 5, failed=[4]), "two", 2.0), (block(5, 9), "one", 0.25)]
    result = written(store, *(predicted_by(*block) for block in blocks))
    assert result.workers == {"one": {"rows": 8, "seconds": 3.0}, "two": {"rows": 1, "seconds": 2.0}}
    assert [read(store, file.path).schema.names for file in result.files] == [SCHEMA.names] * 2


def test_rows_without_a_worker(store: LocalStore) -> None:
    started(store, 20)
    lost = block(0, 2, failed=[0, 1]).drop_columns([f"{MEASURES}decode"])
    result = written(store, lost, predicted_by(block(2, 4), "one", 0.5), predicted_by(block(4, 5), None, 0.5))
    assert result.workers == {"one": {"rows": 2, "seconds": 1.0}}
    assert sum(file.row_count for file in result.files) == 5
    assert written(store, lost).workers == {}


def test_unchanged_rows_are_copied_unchanged(store: LocalStore) -> None:
    log = started(store, 12)
    labels = [f"label {row}" for row in range(12)]
    table = block(0, 12, failed=[3, 7], classification_label=labels, image_bytes=list(range(12)))
    old = [file for rows in (table.slice(0, 6), table.slice(6)) for file in written(store, rows).files]
    log.commit_files(old)
    second = started(store, 12)
    again = RowRanges([(2, 4), (11, 12)])

    copies = copy_unchanged_rows(WriteContext(store.root, second.epoch, SCHEMA), old, again)

    assert {file.epoch for file in copies} == {2}
    assert [file.ranges for file in copies] == [((0, 2), (4, 7), (8, 11)), ((7, 8),)]
    assert [dict(file.errors) for file in copies] == [{}, {"TruncatedImage": 1}]
    copied = pa.concat_tables(read(store, file.path) for file in copies).sort_by("row_id")
    before = pa.concat_tables(read(store, file.path) for file in old).sort_by("row_id")
    assert copied == before.filter(pa.array([row not in (2, 3, 11) for row in range(12)]))


def test_no_row_is_copied(store: LocalStore) -> None:
    log = started(store, 4)
    files = commit(log, 0, 4)
    job = WriteContext(store.root, log.epoch, SCHEMA)
    assert copy_unchanged_rows(job, files, RowRanges([(0, 9)])) == ()
    assert copy_unchanged_rows(job, [], RowRanges()) == ()
    assert len(store.list_sizes(DATA_FOLDER)) == 1


def test_columns_of_a_manifest_are_copied_too(store: LocalStore) -> None:
    log = started(store, 2)
    mine = pa.array([86_400, None], pa.duration("s"))
    schema = predictions_schema(spec().column_fields(), extra_columns=[pa.field("mine", mine.type)])
    files = log.commit_files(written(store, block(0, 2).append_column("mine", mine), schema=schema).files)
    [copy] = copy_unchanged_rows(WriteContext(store.root, log.epoch, schema), files, RowRanges())
    assert read(store, copy.path)["mine"].combine_chunks() == mine


@pytest.mark.parametrize("damage", ["missing", "not Parquet", "cut"])
def test_a_file_that_cannot_be_read_is_not_skipped(store: LocalStore, damage: str) -> None:
    log = started(store, 4)
    [file] = commit(log, 0, 4)
    path = store.local_path(file.path)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"PAR1" if damage == "not Parquet" else content[:-20])
    with pytest.raises(CorruptionError, match=f"{file.path} cannot be read: "):
        copy_unchanged_rows(WriteContext(store.root, log.epoch, SCHEMA), [file], RowRanges())


def test_a_flipped_bit_is_not_copied(store: LocalStore) -> None:
    log = started(store, 4)
    [file] = commit(log, 0, 4)
    path = store.local_path(file.path)
    content = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(SCHEMA.names.index("image_uri"))
    position = content.index(b"photos", column.dictionary_page_offset)
    path.write_bytes(content[:position] + b"q" + content[position + 1 :])
    assert "/qhotos/0.jpg" in read(store, file.path)["image_uri"].to_pylist(), "without checksums the file can be read"
    with pytest.raises(CorruptionError, match=f"{file.path} cannot be read: .*CRC"):
        copy_unchanged_rows(WriteContext(store.root, log.epoch, SCHEMA), [file], RowRanges())


def test_an_older_attempt_copies_nothing(store: LocalStore) -> None:
    log = started(store, 4)
    files = commit(log, 0, 4)
    started(store, 4)
    with pytest.raises(FencedError):
        copy_unchanged_rows(WriteContext(store.root, log.epoch, SCHEMA), files, RowRanges())
    assert len(store.list_sizes(DATA_FOLDER)) == 1
