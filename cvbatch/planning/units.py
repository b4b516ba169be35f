"""Units: consecutive rows of the plan that move through the cluster together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store, open_store
from cvbatch.planning.parts import (
    Part,
    open_part,
    part_row_ranges,
    read_plan_part,
    row_group_bounds,
    without_move_column,
)
from cvbatch.schema import IMAGE_BYTES, ROW_ID
from cvbatch.storage.location import Location

MAX_UNIT_BYTES: Final = 32 << 20
"""Most encoded bytes in a unit, unless a single image is larger."""
TYPICAL_IMAGE_BYTES: Final = 200_000
"""Used for images whose size is unknown."""
_SAMPLED_PARTS: Final = 16
_MAX_SLICE_ROWS: Final = 4096
_FIRST_SAMPLE_ROWS: Final = 8
"""Images in a sample that is fetched before the run starts."""


@dataclass(frozen=True, slots=True)
class RowUnit:
    """Rows `low` … `high`−1, all of one plan part."""

    part: str
    low: int
    high: int

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return self.high - self.low


def cut_into_units(
    store: Store, parts: Sequence[Part], missing: Iterable[RowRange], unit_rows: int, *, first_rows: int | None = None
) -> Iterator[RowUnit]:
    """Cut missing rows into units of at most `unit_rows` rows and `MAX_UNIT_BYTES` encoded bytes.

    Args:
        store: The output with the plan.
        parts: All plan parts, in the order of `all_plan_parts`.
        missing: Ranges of row ids, in order.
        unit_rows: Most rows of a unit.
        first_rows: Most rows of the first unit, so that its result comes early.
    """
    remaining_rows = RowRanges(missing)
    max_rows = first_rows or unit_rows
    for part in parts:
        ranges = [
            overlap for row_range in part_row_ranges(part) for overlap in remaining_rows.ranges_within(*row_range)
        ]
        if not ranges:
            continue
        remaining_rows.remove_present(ranges)
        table = read_plan_part(store, part, [ROW_ID, IMAGE_BYTES])
        row_ids = table[ROW_ID].to_numpy()
        bytes_before = _cumulative_bytes(table)
        for low, high in ranges:
            start = int(np.searchsorted(row_ids, low))
            range_end = start + high - low
            while start < range_end:
                end = _slice_end(bytes_before, start, min(range_end, start + max_rows))
                yield RowUnit(part["path"], int(row_ids[start]), int(row_ids[end - 1]) + 1)
                start, max_rows = end, unit_rows


def slice_by_bytes(images: pa.Table, max_rows: int = _MAX_SLICE_ROWS) -> Iterator[pa.Table]:
    """Cut rows of a plan into tables of at most `max_rows` rows and `MAX_UNIT_BYTES` encoded bytes."""
    bytes_before, start = _cumulative_bytes(images), 0
    while start < images.num_rows:
        end = _slice_end(bytes_before, start, min(images.num_rows, start + max_rows))
        yield images.slice(start, end - start)
        start = end


def _cumulative_bytes(images: pa.Table) -> np.ndarray:
    """Total encoded bytes before each row and, as the last value, of all rows."""
    return np.concatenate(([0], np.cumsum(images[IMAGE_BYTES].fill_null(TYPICAL_IMAGE_BYTES).to_numpy())))


def _slice_end(bytes_before: np.ndarray, start: int, max_end: int) -> int:
    """End of a slice that holds at most `MAX_UNIT_BYTES`, and at least one row."""
    end_by_bytes = int(np.searchsorted(bytes_before, bytes_before[start] + MAX_UNIT_BYTES, side="right")) - 1
    return min(max_end, max(end_by_bytes, start + 1))


def first_row_samples(store: Store, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """Small samples of the first part and then of all parts, to test whether images can be fetched."""
    for sampled_parts in (parts[:1], parts) if len(parts) > 1 else (parts,):
        yield read_row_sample(store, sampled_parts, _FIRST_SAMPLE_ROWS)


def read_row_sample(store: Store, parts: Sequence[Part], count: int) -> pa.Table:
    """Read at most `count` rows, spread over the whole plan.

    Args:
        store: The output with the plan.
        parts: All plan parts, in the order of `all_plan_parts`.
        count: Most rows of the sample.
    """
    sampled_parts = [parts[index] for index in _even_positions(len(parts), min(count, _SAMPLED_PARTS))]
    tables = [take_evenly(read_plan_part(store, part), -(-count // len(sampled_parts))) for part in sampled_parts]
    return pa.concat_tables(tables).slice(0, count).combine_chunks()


def take_evenly(rows: pa.Table, count: int) -> pa.Table:
    """At most `count` rows, evenly spread."""
    return rows.take(pa.array(_even_positions(rows.num_rows, count), pa.int64()))


def _even_positions(length: int, count: int) -> list[int]:
    """At most `count` indices, evenly spread over a length."""
    count = min(length, count)
    return [index * length // count for index in range(count)]


def read_unit_rows(output: Location, unit: RowUnit) -> pa.Table:
    """Read the rows of a unit from the plan."""
    file, lows, highs = _open_cached_part(output, unit.part)
    groups = np.flatnonzero((lows < unit.high) & (highs >= unit.low))
    table = without_move_column(file.read_row_groups(groups.tolist()))
    first = int(np.searchsorted(table[ROW_ID].to_numpy(), unit.low))
    return table.slice(first, unit.row_count).combine_chunks()


@lru_cache(maxsize=4)
def _open_cached_part(output: Location, path: str) -> tuple[pq.ParquetFile, np.ndarray, np.ndarray]:
    """Open a part once per process; returns the file, and the lowest and highest row id of each row group."""
    store = open_store(output)
    file = open_part(store.open_object(path), f"{store.root}/{path}")
    return file, *row_group_bounds(file)
