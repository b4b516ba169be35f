"""Every kind of damage to a finished run is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.output.commit_log import CommitLog
from cvbatch.output.manifest import DATA_FOLDER, SUCCESS_FILE, finish_run, manifest_name
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import PLAN_FILE, Plan
from cvbatch.results.verify import VerifyReport, verify_output
from tests.samples import commit, planned, started, write

ROWS = 40


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, Plan]:
    store, plan = planned(tmp_path, ROWS)
    log = started(store, ROWS)
    commit(log, 0, 10, failed=[3])
    commit(log, 10, ROWS)
    finish_run(log)
    return store, plan


def judged(store: LocalStore, *, deep: bool = False) -> VerifyReport:
    return verify_output(store, CommitLog(store, ROWS), deep=deep)


def test_a_good_run_is_proven(run: tuple[LocalStore, Plan]) -> None:
    for deep in (False, True):
        assert judged(run[0], deep=deep) == VerifyReport(planned=ROWS, committed=ROWS, errors=1, files=3, finished=True)
        assert judged(run[0], deep=deep).is_proven


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, ROWS)
    assert judged(store).problems[0] == f"rows 0 to {ROWS - 1} are missing"
    log = started(store, ROWS)
    commit(log, 5, 10)
    verdict = judged(store)
    assert verdict.problems[:2] == ["rows 0 to 4 are missing", "rows 10 to 39 are missing"]
    assert "not finished" in verdict.problems[2]
    assert not verdict.is_proven


def test_rows_of_changed_images_are_named(run: tuple[LocalStore, Plan]) -> None:
    started(run[0], ROWS).extend_plan([], complete=True, changed=[{"path": "p", "rows": 2, "ranges": [[3, 5]]}])
    verdict = judged(run[0])
    assert verdict.problems[0] == "rows 3 to 4 are of images that have changed"
    assert not verdict.is_proven


def test_parts_of_an_extension_are_verified(run: tuple[LocalStore, Plan]) -> None:
    gone = {"path": "_cvbatch/plan/gone.parquet", "first_row_id": ROWS, "rows": 2}
    started(run[0], ROWS).extend_plan([gone], complete=True)
    assert "gone.parquet cannot be read" in judged(run[0]).problems[0]


def biggest(store: LocalStore) -> str:
    return max(CommitLog(store, ROWS).state.files.values(), key=lambda file: file.row_count).path


def flip(store: LocalStore, name: str, at: int) -> None:
    data = bytearray(store.read_object(name))
    data[at] ^= 0xFF
    store.put_object(name, bytes(data))


DAMAGES: dict[str, tuple[Callable[[LocalStore], object], str]] = {
    "a file is gone": (lambda store: store.delete_object(biggest(store)), "is missing"),
    "a file is cut": (
        lambda store: store.put_object(biggest(store), store.read_object(biggest(store))[:-9]),
        "bytes, expected",
    ),
    "a file is garbage": (
        lambda store: store.put_object(biggest(store), b"x" * store.list_sizes(DATA_FOLDER)[biggest(store)]),
        "cannot be read",
    ),
    "the mark is gone": (lambda store: store.delete_object(SUCCESS_FILE), "_SUCCESS does not name"),
    "the mark is foreign": (lambda store: store.put_object(SUCCESS_FILE, b""), "_SUCCESS does not name"),
    "the manifest is gone": (lambda store: store.delete_object(manifest_name(3)), "is missing; cvbatch run writes it"),
    "the manifest is another": (
        lambda store: store.put_object(manifest_name(3), b'{"final": 3, "files": [], "removed": []}'),
        "does not agree with the log",
    ),
    "a foreign file": (
        lambda store: store.create_object(f"{DATA_FOLDER}/more.parquet", b""),
        "does not belong to this run",
    ),
    "the plan has lost a part": (lambda store: store.delete_object(part(store)), "cannot be read"),
    "the plan has other rows": (
        lambda store: pq.write_table(
            pq.read_table(store.local_path(part(store))).slice(1), store.local_path(part(store))
        ),
        f"has {ROWS - 1} rows from 0, expected {ROWS} from 0",
    ),
    "the plan begins elsewhere": (
        lambda store: store.put_object(
            PLAN_FILE, store.read_object(PLAN_FILE).replace(b'"first_row_id": 0', b'"first_row_id": 1')
        ),
        f"has {ROWS} rows from 1, expected {ROWS} from 0",
    ),
}


def part(store: LocalStore) -> str:
    return next(iter(store.list_sizes("_cvbatch/plan")))


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(run: tuple[LocalStore, Plan], name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(run[0])
    verdict = judged(run[0])
    assert any(expected in problem for problem in verdict.problems), verdict.problems
    assert not verdict.is_proven


def with_ids(table: pa.Table, *row_ids: int) -> pa.Table:
    return table.set_column(0, table.schema.field(0), pa.array(row_ids))


LIES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a row is missing": (lambda table: table.slice(1), f"has {ROWS - 11} rows, expected {ROWS - 10}"),
    "a row is there twice": (lambda table: with_ids(table, 10, *range(10, ROWS - 1)), "a row id occurs twice"),
    "other rows": (lambda table: with_ids(table, *range(11, ROWS), 900), "does not hold the rows that the log names"),
    "rows of another file": (lambda table: with_ids(table, *range(9), *range(19, ROWS)), "are in the set already"),
    "another status": (
        lambda table: table.set_column(7, table.schema.field(7), pa.array(["error"] * len(table))),
        f"has {ROWS - 10} error rows, expected 0",
    ),
    "no row ids": (lambda table: table.drop_columns(["row_id"]), "has no column row_id"),
}


@pytest.mark.parametrize("name", LIES)
def test_files_that_contradict_the_log(tmp_path: Path, name: str) -> None:
    change, expected = LIES[name]
    store, _ = planned(tmp_path, ROWS)
    log = started(store, ROWS)
    commit(log, 0, 10)
    [file] = write(log, 10, ROWS)
    path = store.local_path(file.path)
    pq.write_table(change(pq.read_table(path)), path)
    log.commit_files([replace(file, size=path.stat().st_size)])
    finish_run(log)
    verdict = judged(store)
    assert any(expected in problem for problem in verdict.problems), verdict.problems
    assert not verdict.is_proven


def test_strays_are_reported_separately(run: tuple[LocalStore, Plan]) -> None:
    stray = f"{DATA_FOLDER}/e00000001-{'f' * 32}.parquet"
    run[0].create_object(stray, b"")
    verdict = judged(run[0])
    assert (verdict.strays, verdict.problems, verdict.is_proven) == ([stray], [], False)


def test_deep_finds_any_flipped_byte_of_the_rows(run: tuple[LocalStore, Plan]) -> None:
    store, _ = run
    name = biggest(store)
    with pq.ParquetFile(store.local_path(name)) as file:
        group = file.metadata.row_group(0)
        columns = [group.column(index) for index in range(group.num_columns)]
    for column in columns:
        start = column.dictionary_page_offset or column.data_page_offset
        last = start + column.total_compressed_size - 1
        flip(store, name, last)
        assert judged(store, deep=True).problems, column.path_in_schema
        flip(store, name, last)
    assert judged(store, deep=True).is_proven
