"""Row ranges against Python's own sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.output.row_ranges import RowRange, RowRanges, ranges_of_rows

pairs = st.tuples(st.integers(0, 40), st.integers(0, 40))
filled = pairs.map(sorted).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: (pair[0], pair[1]))


def content(ranges: Iterable[RowRange]) -> set[int]:
    return {row for low, high in ranges for row in range(low, high)}


def holding(rows: Iterable[int]) -> RowRanges:
    return RowRanges((row, row + 1) for row in rows)


def apart(ranges: Iterable[RowRange]) -> bool:
    """Whether ranges are sorted and not empty, and no two of them could be merged."""
    pairs = list(ranges)
    gaps = [following[0] - previous[1] for previous, following in itertools.pairwise(pairs)]
    return all(low < high for low, high in pairs) and all(gap > 0 for gap in gaps)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), pairs), max_size=30))
def test_the_same_as_a_set(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, rows = RowRanges(), set[int]()
    for adding, (low, high) in steps:
        changed = set(range(low, high))
        assert ranges.overlaps(low, high) == bool(changed & rows)
        possible = bool(changed) and (not changed & rows if adding else changed <= rows)
        if not possible:
            with pytest.raises(ValueError, match="row"):
                (ranges.add_range if adding else ranges.remove_range)(low, high)
        elif adding:
            ranges.add_range(low, high)
            rows |= changed
        else:
            ranges.remove_range(low, high)
            rows -= changed
        assert content(ranges) == rows
        assert len(ranges) == len(rows)
        assert apart(ranges), "neighbours are merged"


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(filled, max_size=4)), max_size=20))
def test_add_missing_and_remove_present_are_union_and_difference(steps: list[tuple[bool, list[RowRange]]]) -> None:
    ranges, rows = RowRanges(), set[int]()
    for adding, step_ranges in steps:
        if adding:
            ranges.add_missing(step_ranges)
            rows |= content(step_ranges)
        else:
            ranges.remove_present(step_ranges)
            rows -= content(step_ranges)
        assert content(ranges) == rows
        assert apart(ranges)


@settings(deadline=None)
@given(st.sets(st.integers(0, 40)), filled)
def test_parts_and_gaps_within_a_range(rows: set[int], pair: RowRange) -> None:
    ranges, range_rows = holding(rows), set(range(*pair))
    assert content(ranges.ranges_within(*pair)) == rows & range_rows
    assert content(ranges.gaps_within(*pair)) == range_rows - rows
    assert apart(ranges.ranges_within(*pair))
    assert apart(ranges.gaps_within(*pair))
    assert content(ranges) == rows, "reading does not change the set"
    assert bool(ranges.ranges_within(*pair)) == ranges.overlaps(*pair)


@settings(deadline=None)
@given(st.sets(st.integers(0, 40)), st.lists(st.integers(-2, 42), max_size=20))
def test_contains_rows(rows: set[int], row_ids: list[int]) -> None:
    inside = holding(rows).contains_rows(np.array(row_ids, np.int64))
    assert inside.dtype == np.bool_
    assert inside.tolist() == [row in rows for row in row_ids]


def test_an_empty_range_contains_nothing() -> None:
    ranges = RowRanges([(0, 4)])
    assert ranges.ranges_within(2, 2) == ranges.ranges_within(3, 1) == ranges.gaps_within(2, 2) == []
    ranges.remove_present([(2, 2)])
    assert ranges == RowRanges([(0, 4)])


def test_a_set_can_be_removed_from_itself() -> None:
    ranges = holding({1, 2, 5})
    ranges.remove_present(list(ranges))
    assert ranges == RowRanges()


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)), st.integers(0, 61))
def test_missing_is_the_complement(rows: set[int], planned: int) -> None:
    assert content(holding(rows).missing_ranges(planned)) == set(range(planned)) - rows


@settings(deadline=None)
@given(st.sets(st.integers(0, 1000)))
def test_ranges_of_rows_contain_exactly_the_row_ids(rows: set[int]) -> None:
    ranges = ranges_of_rows(np.array(sorted(rows, key=lambda row: row % 7), np.int64))
    assert content(ranges) == rows
    assert RowRanges(ranges) == holding(rows)
    assert apart(ranges), "no range could be longer"


def test_a_row_id_that_occurs_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        ranges_of_rows(np.array([1, 2, 1]))


def test_equality_is_by_content() -> None:
    assert RowRanges([(0, 2), (2, 4)]) == RowRanges([(0, 4)])
    assert RowRanges([(0, 2)]) != RowRanges([(0, 3)])
    assert RowRanges() != []
