"""Sets of row ids as sorted, disjoint, half-open ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

RowRange = tuple[int, int]


class RowRanges:
    """A set of row ids; ranges are added and removed, and adjacent ranges are merged."""

    def __init__(self, ranges: Iterable[RowRange] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for low, high in ranges:
            self.add_range(low, high)

    def __iter__(self) -> Iterator[RowRange]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        """Number of row ids."""
        return sum(self._ends) - sum(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowRanges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def overlaps(self, low: int, high: int) -> bool:
        """Whether any row id of the range is in the set."""
        index = bisect_right(self._ends, low)
        return low < high and index < len(self._starts) and self._starts[index] < high

    def add_range(self, low: int, high: int) -> None:
        """Add a range.

        Raises:
            ValueError: If it is empty, or if any of its row ids is in the set.
        """
        if low >= high:
            raise ValueError(f"expected a range of at least one row, got {low} to {high}")
        if self.overlaps(low, high):
            raise ValueError(f"rows {low} to {high} are in the set already, at least in part")
        index = bisect_left(self._starts, low)
        joins_previous = index > 0 and self._ends[index - 1] == low
        joins_next = index < len(self._starts) and self._starts[index] == high
        if joins_previous and joins_next:
            self._ends[index - 1] = self._ends.pop(index)
            self._starts.pop(index)
        elif joins_previous:
            self._ends[index - 1] = high
        elif joins_next:
            self._starts[index] = low
        else:
            self._starts.insert(index, low)
            self._ends.insert(index, high)

    def remove_range(self, low: int, high: int) -> None:
        """Remove a range.

        Raises:
            ValueError: If any of its row ids is not in the set.
        """
        index = bisect_right(self._starts, low) - 1
        if index < 0 or self._ends[index] < high or low >= high:
            raise ValueError(f"rows {low} to {high} are not all in the set")
        start, end = self._starts[index], self._ends[index]
        remaining = [(first, last) for first, last in ((start, low), (high, end)) if first < last]
        self._starts[index : index + 1] = [first for first, _ in remaining]
        self._ends[index : index + 1] = [last for _, last in remaining]

    def ranges_within(self, low: int, high: int) -> list[RowRange]:
        """The parts of a range that are in the set, in order."""
        parts = []
        index = bisect_right(self._ends, low)
        while low < high and index < len(self._starts) and self._starts[index] < high:
            parts.append((max(low, self._starts[index]), min(high, self._ends[index])))
            index += 1
        return parts

    def gaps_within(self, low: int, high: int) -> list[RowRange]:
        """The parts of a range that are not in the set, in order."""
        edges = [low, *(edge for pair in self.ranges_within(low, high) for edge in pair), high]
        return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]

    def contains_rows(self, row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each row id of an int64 array (n,) is in the set; bool (n,)."""
        if not self._starts:
            return np.zeros(len(row_ids), np.bool_)
        indices = np.searchsorted(np.array(self._starts), row_ids, side="right") - 1
        inside: npt.NDArray[np.bool_] = (indices >= 0) & (row_ids < np.array(self._ends)[indices])
        return inside

    def missing_ranges(self, rows: int) -> list[RowRange]:
        """The ranges of 0 … rows−1 that are not in the set, in order."""
        return self.gaps_within(0, rows)

    def add_missing(self, ranges: Iterable[RowRange]) -> None:
        """Add the row ids of some ranges that are not in the set yet."""
        for pair in ranges:
            for gap in self.gaps_within(*pair):
                self.add_range(*gap)

    def remove_present(self, ranges: Iterable[RowRange]) -> None:
        """Remove the row ids of some ranges that are in the set."""
        for pair in ranges:
            for part in self.ranges_within(*pair):
                self.remove_range(*part)


def ranges_of_rows(row_ids: npt.NDArray[np.int64]) -> list[RowRange]:
    """Return the ranges that consist of exactly these row ids.

    Args:
        row_ids: int64 (n,), any order.

    Raises:
        ValueError: If a row id occurs twice.
    """
    if not len(row_ids):
        return []
    ordered = np.sort(row_ids)
    steps = np.diff(ordered)
    if (steps == 0).any():
        raise ValueError("a row id occurs twice")
    breaks = np.flatnonzero(steps > 1)
    starts = ordered[np.concatenate(([0], breaks + 1))]
    ends = ordered[np.concatenate((breaks, [len(ordered) - 1]))] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
