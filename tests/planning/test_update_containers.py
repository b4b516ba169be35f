"""Updates and limits over shards: members are known by their names, and changed when their bytes are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cvbatch.errors import RowError, capture_row_error
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.extend import extend_plan_to_limit
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import all_plan_parts, make_plan
from cvbatch.planning.units import cut_into_units
from cvbatch.planning.update import read_planned_rows, update_plan
from cvbatch.schema import predictions_schema
from cvbatch.sources import open_source
from cvbatch.sources.fetch.plan_rows import plan_fetches
from tests.samples import block, job, spec, started
from tests.sources.shards import arrow, images, tar, zipped

MEMBERS = {"a.jpg": b"a", "b.jpg": b"bb", "c.jpg": b"ccc"}
WRITERS: dict[str, Any] = {
    "x.tar": tar,
    "x.tar.gz": tar,
    "x.zip": zipped,
    "x.arrow": lambda path, members: arrow(path, pa.table({"image": images(members.values())})),
}


class Run:
    """One output over several starts; every row is labelled with what a worker reads of it."""

    def __init__(self, source: Path, output: Path, **options: Any) -> None:
        self.store = LocalStore(str(output))
        self.job = job(source, output, source=options)
        self.plan = make_plan(self.store, self.job, [spec()], open_source(self.job.source))

    def log(self) -> CommitLog:
        return started(self.store, self.plan.rows)

    def label(self, log: CommitLog, *, failed: Iterable[int] = ()) -> dict[int, bytes | str]:
        """Commit what is missing and replace what is stale; returns what was read."""
        done = dict[int, bytes | str]()
        for ranges, new in (
            (log.state.accepted.missing_ranges(log.state.planned), True),
            (list(log.state.stale), False),
        ):
            parts = all_plan_parts(self.plan, log.state)
            for unit in cut_into_units(self.store, parts, ranges, 1):
                part = next(part for part in parts if part["path"] == unit.part)
                table = read_plan_part(self.store, part)
                row = table.filter(pc.field("row_id") == unit.low)
                [content] = [capture_row_error("fetch", read) for read in plan_fetches(row)]
                done[unit.low] = content.type if isinstance(content, RowError) else content
                sha = None if isinstance(content, RowError) else hashlib.sha256(content).hexdigest()
                rows = block(unit.low, unit.high, failed=[unit.low] * (unit.low in failed), content_sha256=[sha])
                schema = predictions_schema(spec().column_fields())
                written = write_data_files(WriteContext(self.store.root, log.epoch, schema), [rows]).files
                if new:
                    log.commit_files(written)
                else:
                    span = (unit.low, unit.high)
                    [old] = [file.path for file in log.state.files.values() if file.ranges == (span,)]
                    log.replace_files([old], written, [span])
        return done

    def update(self, **label: Any) -> tuple[CommitLog, dict[int, bytes | str]]:
        log = self.log()
        carried = pa.schema(self.plan.extra_columns(self.store))
        update_plan(log, self.plan, open_source(self.job.source, carried))
        done = self.label(log, **label)
        finish_run(log)
        return log, done


def rows_of(ranges: Iterable[tuple[int, int]]) -> list[int]:
    return [row for low, high in ranges for row in range(low, high)]


@pytest.fixture(params=WRITERS)
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Writes the shard anew, and is another file at each time."""
    times = iter(range(1_900_000_000, 2_000_000_000))

    def write(members: Mapping[str, bytes]) -> Path:
        (tmp_path / "source").mkdir(exist_ok=True)
        path: Path = WRITERS[request.param](tmp_path / "source" / request.param, members)
        os.utime(path, (seconds := next(times), seconds))
        return path

    return write


def test_changed_members_of_a_shard(shard: Any, tmp_path: Path) -> None:
    run = Run(shard(MEMBERS).parent, tmp_path / "out")
    assert run.update()[1] == {0: b"a", 1: b"bb", 2: b"ccc"}
    assert run.update()[1] == {}
    shard(MEMBERS)
    assert run.update()[1] == {}, "it was only touched"
    shard({**MEMBERS, "b.jpg": b"changed", "d.jpg": b"new"})
    log, done = run.update()
    assert done == {1: b"changed", 3: b"new"}
    assert rows_of(log.state.removed) == []
    shard({name: content for name, content in MEMBERS.items() if name != "c.jpg"})
    log, done = run.update()
    assert done == {1: b"bb"}
    assert rows_of(log.state.removed) == [2, 3]


def test_members_at_a_new_position_in_their_shard(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", MEMBERS)
    run = Run(path, tmp_path / "out")
    run.label(run.log(), failed=[1])
    tar(path, {"new.jpg": b"n" * 999, **MEMBERS})
    _, done = run.update()
    assert done == {1: b"bb", 3: b"n" * 999}, "a row that may be tried again is found where it is now"


@pytest.mark.parametrize("shard", ["x.tar", "x.tar.gz", "x.zip"], indirect=True)
def test_labelled_members_are_read_where_they_are_now(shard: Any, tmp_path: Path) -> None:
    """Edits, exports and new models read images that are not labelled again."""
    run = Run(shard(MEMBERS).parent, tmp_path / "out")
    run.update()
    shard({"new.jpg": b"n" * 999, **MEMBERS})
    log, done = run.update()
    assert done == {3: b"n" * 999}
    planned = read_planned_rows(log.store, run.plan, log.state)
    assert [fetch() for fetch in plan_fetches(planned)] == [*MEMBERS.values(), b"n" * 999]
    assert run.update()[1] == {}


def test_a_member_that_occurs_twice(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2"), (os.fsdecode(b"\xe9.jpg"), b"3")])
    run = Run(path, tmp_path / "out")
    assert run.update()[1] == {0: b"1", 1: b"2", 2: b"3"}
    tar(path, [("a.jpg", b"1"), ("a.jpg", b"changed"), (os.fsdecode(b"\xe9.jpg"), b"3")])
    assert run.update()[1] == {1: b"changed"}


def test_metadata_that_changed(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.cls": b"1", "a.jpg": b"a", "b.cls": b"2", "b.jpg": b"b"})
    run = Run(path, tmp_path / "out")
    run.update()
    tar(path, {"a.cls": b"1", "a.jpg": b"a", "b.cls": b"9", "b.jpg": b"b"})
    log, done = run.update()
    assert done == {1: b"b"}
    changed, relocated = log.state.changed
    assert read_plan_part(run.store, changed)["cls"].to_pylist() == [9]
    assert read_plan_part(run.store, relocated)["cls"].to_pylist() == [1]


def test_a_new_first_shard_does_not_change_the_columns(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    tar(tmp_path / "source/1.tar", {"a.cls": b"1", "a.jpg": b"a"})
    run = Run(tmp_path / "source", tmp_path / "out")
    run.update()
    tar(tmp_path / "source/0.tar", {"b.json": b'{"other": 1}', "b.jpg": b"b"})
    assert run.update()[1] == {1: b"b"}


def test_images_in_an_unreadable_shard_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    first, second = (tar(tmp_path / f"source/{number}.tar", MEMBERS) for number in range(2))
    run = Run(tmp_path / "source", tmp_path / "out")
    run.update()
    first.write_bytes(first.read_bytes()[:1024])
    second.unlink()
    log, done = run.update()
    assert done == {}
    assert rows_of(log.state.removed) == [3, 4, 5]


def test_a_limit_ends_within_a_shard(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar.gz", {f"{number}.jpg": b"%d" % number for number in range(9)})
    run = Run(path, tmp_path / "out", limit=4)
    assert (run.plan.rows, run.plan.complete) == (4, False)
    asked = job(path, tmp_path / "out", source={"limit": 7})
    log = run.log()
    extend_plan_to_limit(log, run.plan, asked, open_source(asked.source))
    assert run.label(log) == {row: b"%d" % row for row in range(7)}


def test_a_plan_of_an_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a.jpg").write_bytes(b"a")
    run = Run(tmp_path / "source", tmp_path / "out")
    [part] = run.plan.parts
    table = read_plan_part(run.store, part).drop_columns(["_span"])
    import pyarrow.parquet as pq

    pq.write_table(table, run.store.local_path(part["path"]))
    (tmp_path / "source/b.jpg").write_bytes(b"b")
    assert run.update()[1] == {0: b"a", 1: b"b"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_repaired_shard_and_a_damaged_one(tmp_path: Path, name: str) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    WRITERS[name](shards / f"0{name}", MEMBERS)
    (shards / f"1{name}").write_bytes(b"broken" * 300)
    run = Run(shards, tmp_path / "out")
    log = run.log()
    done = run.label(log)
    assert [done[row] for row in range(3)] == list(MEMBERS.values())
    assert done[3] in ("DamagedArchive", "DamagedTable")
    finish_run(log)

    WRITERS[name](shards / f"1{name}", MEMBERS)
    (shards / f"0{name}").write_bytes(b"broken" * 300)
    log = run.log()
    update_plan(log, run.plan, open_source(run.job.source))
    assert list(log.state.removed) == [(3, 4)], "what cannot be listed any more need not be gone"
    done = run.label(log)
    assert sorted(map(str, done.values())) == sorted(map(str, [*MEMBERS.values(), done[4]]))
    assert done[4] in ("DamagedArchive", "DamagedTable")
    finish_run(log)
