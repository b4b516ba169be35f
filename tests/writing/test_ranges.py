"""Row ranges against Python's own sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.writing.ranges import RowRanges, ranges_of

pairs = st.tuples(st.integers(0, 40), st.integers(0, 40))


def content(ranges: RowRanges) -> set[int]:
    return {row for low, high in ranges for row in range(low, high)}


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
                (ranges.add if adding else ranges.remove)(low, high)
        elif adding:
            ranges.add(low, high)
            rows |= changed
        else:
            ranges.remove(low, high)
            rows -= changed
        assert content(ranges) == rows
        assert len(ranges) == len(rows)
        found = list(ranges)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(found)), "neighbours are merged"


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)), st.integers(0, 61))
def test_missing_is_the_complement(rows: set[int], planned: int) -> None:
    ranges = RowRanges((row, row + 1) for row in rows if row < planned)
    expected = set(range(planned)) - rows
    assert {row for low, high in ranges.missing(planned) for row in range(low, high)} == expected


@settings(deadline=None)
@given(st.sets(st.integers(0, 1000)))
def test_ranges_of_hold_exactly_the_row_ids(rows: set[int]) -> None:
    found = ranges_of(np.array(sorted(rows, key=lambda row: row % 7), np.int64))
    assert {row for low, high in found for row in range(low, high)} == rows
    assert RowRanges(found) == RowRanges((row, row + 1) for row in rows)
    assert len(found) == len(list(RowRanges(found))), "no range could be longer"


def test_a_row_id_that_occurs_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        ranges_of(np.array([1, 2, 1]))


def test_equality_is_by_content() -> None:
    assert RowRanges([(0, 2), (2, 4)]) == RowRanges([(0, 4)])
    assert RowRanges([(0, 2)]) != RowRanges([(0, 3)])
    assert RowRanges() != []
