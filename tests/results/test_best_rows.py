"""The rows that are kept are the best ones, whatever the order and the size of the tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.results.best_rows import BestRows, random_numbers, rank_within_groups


def kept(ids: np.ndarray, priorities: np.ndarray, step: int, limit: int, groups: np.ndarray | None, share: int | None):
    best = BestRows(limit, share)
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        table = pa.table({"row_id": ids[part]})
        best.add_rows(table, priorities[part], None if groups is None else groups[part])
    table = best.finish()
    assert table is not None
    assert table.column_names == ["row_id"]
    return table["row_id"].to_pylist()


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_best_are_kept_and_equal_ones_by_row(step: int) -> None:
    random = np.random.default_rng(step)
    ids, priorities = random.permutation(300), random.integers(0, 20, 300).astype(float)
    expected = sorted(zip(-priorities, ids, strict=True))[:40]
    assert kept(ids, priorities, step, 40, None, None) == [row for _, row in expected]


@pytest.mark.parametrize("step", [3, 1000])
def test_groups_take_turns(step: int) -> None:
    ids, groups = np.arange(100), np.repeat([0, 1], [95, 5])
    rows = kept(ids, -ids.astype(float), step, 20, groups, 5)
    assert sorted(rows) == [*range(15), *range(95, 100)]


def test_nothing_was_added() -> None:
    assert BestRows(3).finish() is None


def test_random_numbers_are_uniform_and_depend_on_the_seed() -> None:
    numbers = random_numbers(np.arange(100_000), 1)
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(10_000, rel=0.05)
    assert (random_numbers(np.arange(5, 3, -1), 1) == numbers[[5, 4]]).all()
    assert abs(np.corrcoef(numbers, random_numbers(np.arange(100_000), 2))[0, 1]) < 0.02
    assert numbers.min() > 0


def test_ranks_within_groups() -> None:
    assert rank_within_groups(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert rank_within_groups(np.array([])).tolist() == []
