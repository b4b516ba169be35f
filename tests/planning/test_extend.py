"""Raising or dropping a limit plans what it had cut off, and nothing twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cvbatch.output.commit_log import LOG_FOLDER, CommitLog
from cvbatch.output.store import LocalStore
from cvbatch.planning.extend import extend_plan_to_limit, needs_extension
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import Plan, make_plan
from cvbatch.sources import open_source
from tests.samples import job, photos, spec, started


class Run:
    """One output over several starts."""

    def __init__(self, source: Path, output: Path, limit: int | None) -> None:
        self.source, self.store = source, LocalStore(str(output))
        asked = self.job(limit)
        self.plan: Plan = make_plan(self.store, asked, [spec()], open_source(asked.source))

    def job(self, limit: int | None) -> Any:
        return job(self.source, self.store.root, source={"limit": limit} if limit else {})

    def needs_extension(self, limit: int | None) -> bool:
        return needs_extension(CommitLog(self.store, self.plan.rows).state, self.plan, limit)

    def start(self, limit: int | None) -> None:
        self.extend(started(self.store, self.plan.rows), limit)

    def extend(self, log: CommitLog, limit: int | None) -> None:
        asked = self.job(limit)
        extend_plan_to_limit(log, self.plan, asked, open_source(asked.source))

    @property
    def names(self) -> list[str]:
        log = CommitLog(self.store, self.plan.rows)
        tables = [read_plan_part(self.store, part) for part in [*self.plan.parts, *log.state.parts]]
        ids = [row for table in tables for row in table["row_id"].to_pylist()]
        assert ids == list(range(log.state.planned))
        return [os.path.basename(uri) for table in tables for uri in table["image_uri"].to_pylist()]


def numbers(*rows: int) -> list[str]:
    return [f"{row:04d}.jpg" for row in rows]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "3")
    return photos(tmp_path / "photos", 8)


def test_raising_and_dropping_a_limit(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", 2)
    run.start(5)
    assert run.names == numbers(*range(5))
    run.start(None)
    assert run.names == numbers(*range(8))
    assert not run.needs_extension(None)


@pytest.mark.parametrize(("limit", "more"), [(2, False), (3, False), (4, True), (None, True)])
def test_needs_extension_by_limit(source: Path, tmp_path: Path, limit: int | None, more: bool) -> None:
    assert Run(source, tmp_path / "out", 3).needs_extension(limit) is more


def test_a_complete_plan_is_not_extended(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", None)
    photos(source, 9)
    assert not run.needs_extension(None)
    run.start(None)
    assert run.names == numbers(*range(8))


def test_a_plan_below_its_limit_is_complete(source: Path, tmp_path: Path) -> None:
    assert not Run(source, tmp_path / "out", 100).needs_extension(None)


def test_extension_after_files_were_added_and_removed(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", 4)
    (source / "0001.jpg").unlink()
    (source / "0006.jpg").unlink()
    (source / "0000a.jpg").touch()
    run.start(None)
    assert run.names == [*numbers(0, 1, 2, 3), "0000a.jpg", *numbers(4, 5, 7)]


@pytest.mark.parametrize(("limit", "rows"), [(4, 5), (6, 6), (None, 8)])
def test_extension_by_another_attempt_is_not_repeated(
    source: Path, tmp_path: Path, limit: int | None, rows: int
) -> None:
    run = Run(source, tmp_path / "out", 2)
    other, log = started(run.store, run.plan.rows), CommitLog(run.store, run.plan.rows)
    run.extend(other, 5)
    log.open_epoch()
    run.extend(log, limit)
    assert run.names == numbers(*range(rows))
    assert all(part["rows"] for part in log.state.parts)


def test_an_extension_without_new_images_completes_the_plan(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", 7)
    (source / "0007.jpg").unlink()
    assert run.needs_extension(None)
    run.start(None)
    assert run.names == numbers(*range(7))
    assert not run.needs_extension(None)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg", b"z.jpg"):
        (tmp_path / "photos" / os.fsdecode(name)).touch()
    run = Run(source, tmp_path / "out", 1)
    run.start(None)
    assert run.names == ["caf\\xe9.jpg", "caf\\xe9.jpg", "z.jpg"]


def test_manifest_rows_are_matched_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "2")
    names = ["a", "a", "b", "a", "c", "a", "a"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"uri": name}) + "\n" for name in names))
    run = Run(tmp_path / "m.jsonl", tmp_path / "out", 1)
    for limit in (2, 3, 6, None):
        run.start(limit)
    assert run.names == names


def test_the_record_of_an_extension(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", 2)
    run.start(4)
    records = [json.loads(run.store.read_object(name)) for name in run.store.list_sizes(LOG_FOLDER)]
    assert [record["type"] for record in records] == ["open", "extend"]
    assert (records[1]["complete"], records[1]["changed"]) == (False, [])
    assert sum(part["rows"] for part in records[1]["parts"]) == 2
