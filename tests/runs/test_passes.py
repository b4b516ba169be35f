"""Passes: every row is computed, in units, then in smaller units, finally row by row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from cvbatch.errors import RunError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.row_ranges import RowRange
from cvbatch.runs.passes import compute_missing_rows
from tests.engines import FakeEngine
from tests.samples import commit, planned, started

ROWS: Final = 64
UNIT: Final = 16


class Run:
    """A plan, an open log and an engine."""

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        store, self.plan = planned(folder, rows)
        self.log: CommitLog = started(store, rows)
        self.engine = FakeEngine(store.root, UNIT)
        self.waves = (1_000, 50_000)

    def compute(self, requested: Iterable[RowRange] | None = None) -> list[int]:
        """Commit all results; returns the row ids in the order of the results."""
        row_ids = list[int]()

        def missing() -> Iterable[RowRange]:
            gaps = self.log.state.accepted.missing_ranges(self.log.state.planned)
            return gaps if requested is None else [gap for gap in requested if gap in gaps]

        for results in compute_missing_rows(self.engine, self.log, self.plan, missing, waves=self.waves):
            files = [file for result in results for file in result.files]
            assert self.log.commit_files(files) == files
            row_ids += [row for file in files for low, high in file.ranges for row in range(low, high)]
        return row_ids

    @property
    def sizes(self) -> list[list[int]]:
        """Rows of the units of each call."""
        return [[high - low for low, high in call.units] for call in self.engine.calls]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_every_row_is_computed_once_and_the_first_unit_is_small(run: Run) -> None:
    assert run.compute() == list(range(ROWS))
    assert run.sizes == [[4, 16, 16, 16, 12]]
    assert run.engine.calls[0].max_lost_units == 10


def test_nothing_is_missing(run: Run) -> None:
    commit(run.log, 0, ROWS)
    assert run.compute() == []
    assert run.engine.calls == []


def test_only_missing_rows_are_computed(run: Run) -> None:
    commit(run.log, 0, 30)
    commit(run.log, 40, 60)
    assert run.compute() == [*range(30, 40), *range(60, 64)]


def test_only_requested_rows_are_computed(run: Run) -> None:
    commit(run.log, 0, 10)
    commit(run.log, 13, ROWS)
    assert run.compute([(10, 13)]) == [10, 11, 12]
    assert run.compute([(13, 14)]) == []


def test_lost_units_run_again_in_smaller_units_and_then_row_by_row(run: Run) -> None:
    run.engine.deadly = {21, 50}
    row_ids = run.compute()
    assert sorted(row_ids) == list(range(ROWS))
    whole_units, smaller_units, single_rows = run.engine.calls
    assert whole_units.rows == list(range(ROWS))
    assert smaller_units.rows == [*range(20, 36), *range(36, 52)], "only the units that were lost"
    assert max(high - low for low, high in smaller_units.units) == 2
    assert (single_rows.rows, single_rows.max_lost_units) == ([21, 22, 49, 50], None)
    assert [high - low for low, high in single_rows.units] == [1] * 4
    assert run.log.state.errors == {"ProcessDied": 2}


def test_only_units_beside_a_hanging_image_run_row_by_row(run: Run) -> None:
    run.engine.hanging = {9}
    assert sorted(run.compute()) == list(range(ROWS))
    whole_units, smaller_units, reverse_units, single_rows = run.engine.calls
    assert (whole_units.rows, smaller_units.rows) == (list(range(ROWS)), list(range(4, ROWS)))
    assert reverse_units.units == sorted(reverse_units.units, reverse=True)
    assert (reverse_units.units[0], reverse_units.units[-1]) == ((62, 64), (9, 10)), "rows before it are done"
    assert single_rows.rows == [9], "now rows behind it are done, too"
    assert run.log.state.errors == {"ProcessDied": 1}


def test_an_image_that_kills_only_larger_units_is_a_good_row(run: Run) -> None:
    run.engine.deadly = {21}
    run.engine.after_unit = lambda: run.engine.deadly.clear() if len(run.engine.calls) == 2 else None
    assert sorted(run.compute()) == list(range(ROWS))
    assert run.log.state.errors == {}


def test_after_the_first_result_all_suspect_units_may_be_lost(run: Run) -> None:
    run.engine.deadly = set(range(16, 64))
    assert sorted(run.compute()) == list(range(ROWS))
    assert [call.max_lost_units for call in run.engine.calls] == [10, len(run.engine.calls[1].units), None]
    assert run.log.state.errors == {"ProcessDied": 48}


def test_a_run_that_loses_every_unit_stops(tmp_path: Path) -> None:
    run = Run(tmp_path, rows=400)
    run.engine.deadly = set(range(400))
    with pytest.raises(RunError, match="a process died"):
        run.compute()
    assert len(run.engine.calls) == 1, "there is no second pass"


def test_a_small_run_that_loses_every_unit_stops(run: Run) -> None:
    run.engine.deadly = set(range(ROWS))
    with pytest.raises(RunError, match="a process died"):
        run.compute()
    assert [call.max_lost_units for call in run.engine.calls] == [10, 10]
    assert len(run.log.state.accepted) == 0


def test_some_units_of_a_large_wave_may_be_lost(tmp_path: Path) -> None:
    run = Run(tmp_path, rows=300)
    run.engine.unit_rows = 1
    run.engine.deadly = set(range(15))
    assert len(run.compute()) == 300
    assert run.engine.calls[0].max_lost_units == 15
    again = Run(tmp_path / "again", rows=300)
    again.engine.unit_rows, again.engine.deadly = 1, set(range(16))
    with pytest.raises(RunError):
        again.compute()


def test_the_first_wave_is_small(run: Run) -> None:
    run.waves = (3, 5)
    run.engine.unit_rows = 4
    run.engine.deadly = {40}
    assert sorted(run.compute()) == list(range(ROWS))
    counts = [len(call.units) for call in run.engine.calls]
    assert counts == [3, 5, 5, 4, 4, 1], "17 units, then the rows of the one that was lost, then one image"


def test_units_lost_in_one_wave_wait_for_the_next_pass(run: Run) -> None:
    run.waves = (1, 1)
    run.engine.deadly = {0}
    run.compute()
    assert [call.rows[0] for call in run.engine.calls][:6] == [0, 4, 20, 36, 52, 0]


def test_no_further_wave_starts_when_the_time_is_up(run: Run) -> None:
    run.engine.deadly = {5}

    def stop() -> None:
        run.engine.over = len(run.log.state.accepted) >= 36

    run.engine.after_unit = stop
    row_ids = run.compute()
    assert len(row_ids) == 36
    assert len(run.engine.calls) == 1
    run.engine.over, run.engine.after_unit = False, lambda: None
    assert sorted([*row_ids, *run.compute()]) == list(range(ROWS))


def test_late_results_of_lost_units_are_not_computed_again(run: Run) -> None:
    run.engine.deadly = {21}

    def arrive() -> None:
        if not run.log.state.accepted.overlaps(20, 36) and len(run.log.state.accepted) == 48:
            commit(run.log, 20, 36)

    run.engine.after_unit = arrive
    assert sorted(run.compute()) == [*range(20), *range(36, ROWS)]
    assert len(run.engine.calls) == 1
    assert len(run.log.state.accepted) == ROWS


def test_a_larger_cluster_is_rebalanced_at_once(run: Run) -> None:
    def grow() -> None:
        if len(run.log.state.accepted) == 4 and len(run.engine.calls) == 1:
            run.engine.grows_to = 20

    run.engine.after_unit = grow
    assert run.compute() == list(range(ROWS))
    assert run.sizes == [[4, 16, 16, 16, 12], [5, 20, 20, 15]]
    assert run.engine.calls[1].max_lost_units == 10, "units for the larger cluster are not suspect"
