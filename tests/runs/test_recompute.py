"""Recomputing rows and replacing their files: nothing is lost, duplicated or computed for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.errors import CorruptionError, FencedError, RowError, RunError
from cvbatch.output.commit_log import LOG_FOLDER, CommitLog
from cvbatch.output.data_files import WriteContext, WriteResult, write_data_files
from cvbatch.output.log_records import DataFile, RunState
from cvbatch.output.manifest import DATA_FOLDER, finish_run
from cvbatch.output.row_ranges import RowRange
from cvbatch.results import predictions
from cvbatch.results.verify import verify_output
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.recompute import failed_rows, recompute_rows
from cvbatch.schema import predictions_schema
from tests.engines import FakeEngine
from tests.samples import FAILED, block, planned, spec, started, write

ROWS: Final = 40
BUSY: Final = RowError("fetch", "TimeoutError", "the disk was busy", transient=True)


class Run:
    """A finished run whose rows were labelled by epoch 1."""

    def __init__(self, folder: Path) -> None:
        self.store, self.plan = planned(folder, ROWS)
        log = started(self.store, ROWS)
        self._commit(log, 0, 20, failed=[3, 4, 5], error=BUSY)
        self._commit(log, 20, ROWS, failed=[22, 30, 31])
        finish_run(log)
        self.log = CommitLog(self.store, ROWS)
        self.engine = FakeEngine(self.store.root)
        self.replaced: list[list[RowRange]] = []

    def _commit(self, log: CommitLog, low: int, high: int, *, failed: list[int], error: RowError = FAILED) -> None:
        labels = [None if row in failed else "epoch 1" for row in range(low, high)]
        rows = block(low, high, failed=failed, error=error, classification_label=labels)
        log.commit_files(
            write_data_files(WriteContext(self.store.root, 1, predictions_schema(spec().column_fields())), [rows]).files
        )

    def recompute(self, *rows: RowRange, rows_at_once: int = 4_096) -> None:
        """An attempt that only recomputes rows."""

        def on_committed(state: RunState) -> None:
            self.replaced.append(list(state.accepted))

        with RunAttempt(self.log, self.plan, self.engine, ComputeConfig()) as attempt:
            recompute_rows(attempt, rows, on_committed, rows_at_once=rows_at_once)

    @property
    def records(self) -> list[str]:
        """Types of the records since the run was finished."""
        kinds = [json.loads(self.store.read_object(name))["type"] for name in self.store.list_sizes(LOG_FOLDER)]
        return kinds[kinds.index("final") + 1 :]

    def frame(self) -> pd.DataFrame:
        frame = predictions.read(self.store.root)
        assert frame["row_id"].tolist() == list(range(ROWS))
        return frame

    def labelled_by(self, epoch: int) -> list[int]:
        frame = self.frame()
        return frame.loc[frame["classification_label"] == f"epoch {epoch}", "row_id"].tolist()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def rows_of(ranges: Iterable[RowRange]) -> list[int]:
    return [row for low, high in ranges for row in range(low, high)]


@pytest.mark.parametrize(("transient_only", "expected"), [(False, [3, 4, 5, 22, 30, 31]), (True, [3, 4, 5])])
def test_failed_rows(run: Run, transient_only: bool, expected: list[int]) -> None:
    assert rows_of(failed_rows(run.store, run.log.state, transient_only=transient_only)) == expected


def test_failed_rows_reads_only_files_with_errors(run: Run) -> None:
    for file in run.log.state.files.values():
        if not file.errors:
            run.store.delete_object(file.path)
    assert len(failed_rows(run.store, run.log.state, transient_only=False)) == 6


@pytest.mark.parametrize("content", [None, b"damaged"], ids=["missing", "damaged"])
def test_a_file_of_error_rows_that_cannot_be_read_is_named(run: Run, content: bytes | None) -> None:
    path = next(file.path for file in run.log.state.files.values() if file.errors)
    run.store.delete_object(path)
    if content is not None:
        run.store.local_path(path).write_bytes(content)
    with pytest.raises(CorruptionError, match=f"{path} cannot be read: ") as caught:
        failed_rows(run.store, run.log.state, transient_only=False)
    assert "\n" not in str(caught.value)


def test_only_requested_rows_are_computed_and_only_their_files_replaced(run: Run) -> None:
    before = set(run.log.state.files)
    run.recompute((3, 6))
    assert sorted(run.engine.computed) == [3, 4, 5]
    gone = before - set(run.log.state.files)
    assert len(gone) == 1, "the file of error rows that held them"
    assert run.labelled_by(2) == [3, 4, 5]
    assert +run.log.state.errors == {"TruncatedImage": 3}
    assert run.records == ["open", "replace"]
    finish_run(run.log)
    assert verify_output(run.store, CommitLog(run.store, ROWS, whole=True), deep=True).is_proven


def test_rows_that_fail_again_stay_error_rows(run: Run) -> None:
    run.engine.failed = {22, 31}
    run.recompute((22, 23), (30, 32))
    assert run.labelled_by(2) == [30]
    assert +run.log.state.errors == {"TimeoutError": 3, "TruncatedImage": 2}


def test_the_other_rows_of_a_file_are_copied(run: Run) -> None:
    before = run.frame()
    run.recompute((22, 23))
    after = run.frame()
    unchanged = [row for row in range(ROWS) if row != 22]
    pd.testing.assert_frame_equal(after.iloc[unchanged], before.iloc[unchanged])
    assert len(run.engine.copied) == 1
    assert +run.log.state.errors == {"TimeoutError": 3, "TruncatedImage": 2}


def test_good_rows_are_recomputed_and_other_rows_stay(run: Run) -> None:
    run.engine.failed = {10}
    run.recompute((10, 12), (25, 26))
    assert run.labelled_by(2) == [11, 25]
    assert sorted(run.engine.computed) == [10, 11, 25]
    assert run.frame().loc[10, "error_type"] == "TruncatedImage"
    assert len(run.labelled_by(1)) == ROWS - 6 - 3


def test_a_file_with_rows_of_both_kinds_is_rewritten_whole(run: Run) -> None:
    """Older versions wrote such files."""
    log = started(run.store, ROWS)
    [good, failed] = [file for file in log.state.files.values() if max(file.ranges)[1] <= 20]
    path = f"{DATA_FOLDER}/e{log.epoch:08d}-{'a' * 32}.parquet"
    tables = [pq.read_table(run.store.local_path(file.path)) for file in (good, failed)]
    pq.write_table(pa.concat_tables(tables), run.store.local_path(path))
    mixed = DataFile(path, run.store.list_sizes(DATA_FOLDER)[path], ((0, 20),), failed.errors)
    log.replace_files([good.path, failed.path], [mixed], [])
    run.log = CommitLog(run.store, ROWS)
    run.recompute((3, 5))
    assert run.labelled_by(3) == [3, 4]
    assert run.frame().loc[5, "status"] == "error"
    assert len(run.labelled_by(1)) == 34


def test_many_rows_are_replaced_in_batches(run: Run) -> None:
    run.recompute((0, ROWS), rows_at_once=4)
    assert run.records == ["open"] + ["replace"] * 10
    assert sorted(run.engine.computed) == list(range(ROWS)), "each row once"
    assert run.labelled_by(2) == list(range(ROWS))
    assert run.replaced == [[(0, ROWS)]] * 10, "every row exists after each replacement"


def test_images_that_fail_again_are_computed_once(run: Run) -> None:
    run.engine.failed = {3, 4, 5, 22}
    run.recompute((3, 6), (22, 23), rows_at_once=2)
    assert sorted(run.engine.computed) == [3, 4, 5, 22]
    assert run.records == ["open", "replace", "replace"]


def test_finished_batches_stay_after_an_interruption(run: Run) -> None:
    def interrupt() -> None:
        if len(run.engine.calls) == 3:
            raise KeyboardInterrupt

    run.engine.after_unit = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.recompute((0, ROWS), rows_at_once=4)
    assert len(run.replaced) == 2
    assert len(run.labelled_by(2)) == 8


def test_an_interrupted_batch_keeps_the_old_files(run: Run) -> None:
    files, before = dict(run.log.state.files), run.frame()

    def interrupt() -> None:
        raise KeyboardInterrupt

    run.engine.after_unit = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.recompute((0, 20))
    assert run.log.state.files == files
    assert set(files) <= set(run.store.list_sizes(DATA_FOLDER))
    pd.testing.assert_frame_equal(run.frame(), before)
    finish_run(run.log)
    assert set(run.store.list_sizes(DATA_FOLDER)) == set(files), "files of the interrupted batch are deleted"


def test_a_batch_without_time_keeps_the_old_files(run: Run) -> None:
    files = dict(run.log.state.files)

    def stop() -> None:
        run.engine.over = True

    run.engine.after_unit = stop
    run.recompute((0, 20))
    assert run.log.state.files == files
    assert run.records == ["open"]
    assert len(run.engine.calls) == 1
    run.recompute((0, 20))
    assert len(run.engine.calls) == 1, "no time, no work"


def test_lost_rows_run_again_without_losing_other_rows(run: Run) -> None:
    run.engine.deadly = {4, 25}
    run.recompute((0, ROWS))
    assert run.labelled_by(2) == [row for row in range(ROWS) if row not in (4, 25)]
    assert +run.log.state.errors == {"ProcessDied": 2}
    assert run.engine.calls[-1].max_lost_units is None


class Repeating(FakeEngine):
    """Reports each file three times."""

    def run_units(self, *arguments: Any, **options: Any) -> Iterator[list[WriteResult]]:
        for results in super().run_units(*arguments, **options):
            yield [*results, *results]
            yield results


def test_files_reported_twice_count_once(run: Run) -> None:
    run.engine = Repeating(run.store.root)
    run.recompute((3, 6))
    assert run.labelled_by(2) == [3, 4, 5]


def test_rows_that_are_not_committed_are_not_recomputed(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 8)
    log = started(store, 8)
    log.commit_files(write(log, 0, 4))
    engine, records = FakeEngine(store.root), list[int]()

    def on_committed(_: object) -> None:
        records.append(log.state.next_seq)
        assert len(records) < 5, "the loop must end"

    with RunAttempt(log, plan, engine, ComputeConfig()) as attempt:
        recompute_rows(attempt, [(2, 6)], on_committed)
    assert sorted(engine.computed) == [2, 3]
    assert len(records) == 1
    assert list(log.state.accepted) == [(0, 4)]


def test_a_fenced_attempt_replaces_nothing(run: Run) -> None:
    run.engine.after_unit = lambda: started(run.store, ROWS)
    files = dict(run.log.state.files)
    with pytest.raises(FencedError):
        run.recompute((3, 6))
    assert CommitLog(run.store, ROWS).state.files == files
    assert run.labelled_by(2) == []


def test_a_file_that_cannot_be_copied_stops_it(run: Run) -> None:
    damaged = next(file for file in run.log.state.files.values() if 22 in rows_of(file.ranges))
    run.store.local_path(damaged.path).write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot be read"):
        run.recompute((22, 23))
    assert damaged.path in CommitLog(run.store, ROWS).state.files


def test_too_many_errors_stop_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_ERROR_SHARE_ROWS", "10")
    run.engine.failed = set(range(ROWS))
    with pytest.raises(RunError, match="rows are errors"):
        run.recompute((0, ROWS))
    assert run.records == ["open"]


def test_nothing_to_do(run: Run) -> None:
    run.recompute()
    assert run.engine.calls == []
    assert run.records == ["open"]
