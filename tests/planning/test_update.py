"""An update plans what is new or changed, marks what is gone, and leaves everything else alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from cvbatch.errors import CorruptionError, RunError, SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import all_plan_parts, make_plan
from cvbatch.planning.units import cut_into_units
from cvbatch.planning.update import check_can_update, update_plan
from cvbatch.schema import predictions_schema
from cvbatch.sources import open_source
from tests.samples import block, job, photos, spec, started

ROWS: Final = 8
LATER: Final = 1_900_000_000.0


class Run:
    """One output over several starts; labels are made up, but contents are hashed as they are."""

    def __init__(self, source: Path, output: Path, limit: int | None = None) -> None:
        self.store = LocalStore(str(output))
        self.job = job(source, output, source={"limit": limit} if limit else {})
        self.plan = make_plan(self.store, self.job, [spec()], open_source(self.job.source))

    def read(self) -> CommitLog:
        return CommitLog(self.store, self.plan.rows)

    def facts(self, log: CommitLog, *rows: int) -> list[dict[str, Any]]:
        """What a worker gets to see of each of these rows: its line in the part that its unit is cut from."""
        parts = {part["path"]: part for part in all_plan_parts(self.plan, log.state)}
        units = cut_into_units(self.store, list(parts.values()), [(row, row + 1) for row in sorted(rows)], 1)
        lines = {unit.low: read_plan_part(self.store, parts[unit.part]).to_pylist() for unit in units}
        return [next(line for line in lines[row] if line["row_id"] == row) for row in rows]

    def label(self, log: CommitLog, *, failed: Iterable[int] = ()) -> None:
        """Commit what is missing and replace what is stale, each row in a file of its own."""
        missing, stale = (
            [row for low, high in ranges for row in range(low, high)]
            for ranges in (log.state.accepted.missing_ranges(log.state.planned), list(log.state.stale))
        )
        for row in missing:
            log.commit_files(self._write(log, row, row in failed))
        for row in stale:
            [old] = [file.path for file in log.state.files.values() if file.ranges == ((row, row + 1),)]
            log.replace_files([old], self._write(log, row, row in failed), [(row, row + 1)])

    def update(self, limit: int | None = None) -> CommitLog:
        """A start that plans, but has not yet computed anything."""
        log = started(self.store, self.plan.rows)
        update_plan(log, self.plan, open_source(self.job.source), limit)
        return log

    def _write(self, log: CommitLog, row: int, failed: bool) -> tuple[DataFile, ...]:
        [fact] = self.facts(log, row)
        path = Path(os.fsdecode(fact["_location"] or os.fsencode(fact["image_uri"])))
        sha = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        rows = block(row, row + 1, failed=[row] * failed, content_sha256=[None if failed else sha])
        job = WriteContext(self.store.root, log.epoch, predictions_schema(spec().column_fields()))
        return write_data_files(job, [rows]).files


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "3")
    return photos(tmp_path / "photos", ROWS)


@pytest.fixture
def run(source: Path, tmp_path: Path) -> Run:
    """A finished run."""
    finished = Run(source, tmp_path / "out")
    log = started(finished.store, ROWS)
    finished.label(log)
    finish_run(log)
    return finished


def change(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (LATER, LATER))


def rows_of(ranges: Iterable[tuple[int, int]]) -> list[int]:
    return [row for low, high in ranges for row in range(low, high)]


def test_an_unchanged_source_adds_nothing_to_the_log(run: Run) -> None:
    log = run.update()
    assert log.state.last is not None
    assert log.state.last["type"] == "open"
    finish_run(log)
    assert log.state.planned == ROWS


def test_new_images_get_the_next_row_ids(run: Run, source: Path) -> None:
    for name in ("0000a.jpg", "zz.jpg"):
        (source / name).write_bytes(b"new")
    log = run.update()
    assert rows_of(log.state.accepted.missing_ranges(log.state.planned)) == [8, 9]
    facts = run.facts(log, 8, 9)
    assert [fact["row_id"] for fact in facts] == [8, 9]
    assert [Path(fact["image_uri"]).name for fact in facts] == ["0000a.jpg", "zz.jpg"]
    assert len(log.state.stale) == len(log.state.removed) == 0
    run.label(log)
    finish_run(log)
    assert log.state.planned == 10


@pytest.mark.parametrize("content", [b"longer than it was", b"yyyyy"], ids=["another size", "the same size"])
def test_a_changed_image_keeps_its_row(run: Run, source: Path, content: bytes) -> None:
    change(source / "0005.jpg", content)
    log = run.update()
    assert (log.state.planned, rows_of(log.state.stale)) == (ROWS, [5])
    [fact] = run.facts(log, 5)
    assert (fact["row_id"], fact["image_bytes"]) == (5, len(content))
    assert fact["_modified_ns"] == LATER * 10**9
    with pytest.raises(RunError, match="1 rows are missing"):
        log.append_final()
    run.label(log)
    finish_run(log)
    assert len(run.update().state.stale) == 0, "once is enough"


def test_an_image_with_only_a_new_time_has_not_changed(run: Run, source: Path) -> None:
    os.utime(source / "0005.jpg", (LATER, LATER))
    log = run.update()
    assert len(log.state.stale) == len(log.state.removed) == 0
    assert log.state.changed == []


def test_removed_images_are_marked_and_kept(run: Run, source: Path) -> None:
    for number in (2, 3, 7):
        (source / f"{number:04d}.jpg").unlink()
    log = run.update()
    assert rows_of(log.state.removed) == [2, 3, 7]
    assert len(log.state.accepted) == log.state.planned == ROWS
    finish_run(log)
    assert rows_of(run.update().state.removed) == [2, 3, 7]


@pytest.mark.parametrize("content", [b"xxx", b"other"], ids=["as it was", "changed"])
def test_a_restored_image_is_labelled_again_only_if_it_differs(run: Run, source: Path, content: bytes) -> None:
    path = source / "0003.jpg"
    path.unlink()
    finish_run(run.update())
    change(path, content)
    log = run.update()
    assert rows_of(log.state.removed) == []
    assert rows_of(log.state.stale) == ([] if content == b"xxx" else [3])
    assert log.state.planned == ROWS


def test_failed_images_that_are_readable_now_are_retried(source: Path, tmp_path: Path) -> None:
    (source / "0002.jpg").unlink()
    (source / "0002.jpg").symlink_to(tmp_path / "target.jpg")
    run = Run(source, tmp_path / "out")
    log = started(run.store, ROWS)
    run.label(log, failed=[2, 5, 6])
    finish_run(log)
    (tmp_path / "target.jpg").write_bytes(b"here it is")
    os.utime(source / "0005.jpg", (LATER, LATER))  # such as by a chmod and a copy
    assert rows_of(run.update().state.stale) == [2, 5]


def test_a_limit_holds_for_the_whole_plan(run: Run, source: Path) -> None:
    for name in ("x.jpg", "y.jpg", "z.jpg"):
        (source / name).write_bytes(b"new")
    log = run.update(limit=ROWS + 1)
    assert (log.state.planned, log.state.complete) == (ROWS + 1, False)
    assert run.update(limit=ROWS + 1).state.planned == ROWS + 1
    assert run.update(limit=ROWS - 2).state.planned == ROWS + 1, "what is planned stays planned"
    log = run.update()
    assert (log.state.planned, log.state.complete) == (ROWS + 3, True)
    names = [Path(fact["image_uri"]).name for fact in run.facts(log, 8, 9, 10)]
    assert names == ["x.jpg", "y.jpg", "z.jpg"]


def test_images_beyond_the_limit_are_not_removed(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out", limit=5)
    run.label(started(run.store, 5))
    log = run.update(limit=5)
    assert (log.state.planned, len(log.state.removed)) == (5, 0)


def test_two_updates_one_after_the_other(run: Run, source: Path) -> None:
    (source / "a.jpg").write_bytes(b"new")
    change(source / "0001.jpg", b"first change")
    (source / "0002.jpg").unlink()
    log = run.update()
    run.label(log)
    finish_run(log)
    (source / "b.jpg").write_bytes(b"newer")
    change(source / "0001.jpg", b"second change")
    change(source / "a.jpg", b"changed too")
    (source / "0004.jpg").unlink()
    log = run.update()
    assert rows_of(log.state.stale) == [1, 8]
    assert rows_of(log.state.removed) == [2, 4]
    assert [fact["image_bytes"] for fact in run.facts(log, 1, 8, 9)] == [13, 11, 5]
    run.label(log)
    finish_run(log)
    assert log.state.planned == len(log.state.accepted) == 10


def test_an_interrupted_update_is_finished_later(run: Run, source: Path) -> None:
    change(source / "0001.jpg", b"changed")
    run.update()  # planned, but nothing is computed
    log = started(run.store, ROWS)
    assert rows_of(log.state.stale) == [1]
    with pytest.raises(RunError, match="missing"):
        log.append_final()
    log = run.update()
    assert rows_of(log.state.stale) == [1]
    run.label(log)
    finish_run(log)
    assert rows_of(log.state.stale) == []


def test_an_update_by_another_attempt_is_not_repeated(run: Run, source: Path) -> None:
    other, log = started(run.store, ROWS), run.read()
    (source / "new.jpg").write_bytes(b"new")
    (source / "0002.jpg").unlink()
    update_plan(other, run.plan, open_source(run.job.source))
    (source / "newer.jpg").write_bytes(b"newer")
    (source / "0004.jpg").unlink()
    log.open_epoch()
    update_plan(log, run.plan, open_source(run.job.source))
    assert [Path(fact["image_uri"]).name for fact in run.facts(log, ROWS, ROWS + 1)] == ["new.jpg", "newer.jpg"]
    assert (log.state.planned, rows_of(log.state.removed)) == (ROWS + 2, [2, 4])


def test_a_run_that_is_not_finished_can_be_updated(source: Path, tmp_path: Path) -> None:
    run = Run(source, tmp_path / "out")
    change(source / "0001.jpg", b"changed before it was labelled")
    log = run.update()
    assert [fact["image_bytes"] for fact in run.facts(log, 1)] == [30]
    run.label(log)
    finish_run(log)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / os.fsdecode(name) for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg", b"\xff.jpg", b"z.jpg")]
    for path in paths:
        path.write_bytes(b"old")
    run = Run(folder, tmp_path / "out")
    log = started(run.store, 4)
    run.label(log)
    finish_run(log)
    names = [fact["_location"] for fact in run.facts(log, 0, 1, 2, 3)]
    change(paths[0], b"changed")
    paths[2].unlink()
    (folder / os.fsdecode(b"\xfe.jpg")).write_bytes(b"new")
    log = run.update()
    assert rows_of(log.state.stale) == [names.index(os.fsencode(paths[0]))]
    assert rows_of(log.state.removed) == [names.index(os.fsencode(paths[2]))]
    assert [fact["_location"] for fact in run.facts(log, 4)] == [os.fsencode(folder) + b"/\xfe.jpg"]


def test_images_in_an_unreadable_folder_are_not_removed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(source / "sub", 2)
    run = Run(source, tmp_path / "out")
    run.label(started(run.store, ROWS + 2))
    (source / "0000.jpg").unlink()
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if os.fsencode(folder).endswith(b"/sub"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert rows_of(run.update().state.removed) == [0]


def test_an_unreadable_data_file_of_a_changed_image_is_named(run: Run, source: Path) -> None:
    change(source / "0005.jpg", b"changed")
    path = next(file.path for file in run.read().state.files.values() if file.ranges == ((5, 6),))
    run.store.local_path(path).write_bytes(b"damaged")
    with pytest.raises(CorruptionError, match=f"{path} cannot be read: "):
        run.update()


def test_a_source_without_any_image_is_refused(run: Run, source: Path) -> None:
    check_can_update(run.job, open_source(run.job.source), [])
    for path in source.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="holds no images any more"):
        check_can_update(run.job, open_source(run.job.source), [])
