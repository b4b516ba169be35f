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
from cvbatch.planning.parts import Part, open_part, part_row_ranges, read_plan_part, without_move_column
from cvbatch.schema import IMAGE_BYTES, ROW_ID
from cvbatch.storage.location import Location

MAX_UNIT_BYTES: Final = 32 << 20
"""A unit holds at most so many encoded bytes, unless one image alone is larger."""
TYPICAL_IMAGE_BYTES: Final = 200_000
"""Stands for sizes that the listing did not tell."""
_SAMPLED_PARTS: Final = 16
_MAX_SLICE_ROWS: Final = 4096
_FIRST_SAMPLE_ROWS: Final = 8
"""Images of a sample that are tried before anything is started."""


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
        parts: As `all_parts` gives them.
        missing: Ranges of row ids in order.
        unit_rows: Most rows of a unit.
        first_rows: Most rows of the first one, so that something is done early.
    """
    left = RowRanges(missing)
    rows = first_rows or unit_rows
    for part in parts:
        ranges = [piece for pair in part_row_ranges(part) for piece in left.ranges_within(*pair)]
        if not ranges:
            continue
        left.remove_present(ranges)
        table = read_plan_part(store, part, [ROW_ID, IMAGE_BYTES])
        row_ids = table[ROW_ID].to_numpy()
        total = _cumulative_bytes(table)
        for low, high in ranges:
            at = int(np.searchsorted(row_ids, low))
            end = at + high - low
            while at < end:
                to = _slice_end(total, at, min(end, at + rows))
                yield RowUnit(part["path"], int(row_ids[at]), int(row_ids[to - 1]) + 1)
                at, rows = to, unit_rows


def slice_by_bytes(images: pa.Table) -> Iterator[pa.Table]:
    """Cut rows of a plan into tables that hold as few encoded bytes as a unit does."""
    total, at = _cumulative_bytes(images), 0
    while at < images.num_rows:
        to = _slice_end(total, at, min(images.num_rows, at + _MAX_SLICE_ROWS))
        yield images.slice(at, to - at)
        at = to


def _cumulative_bytes(images: pa.Table) -> np.ndarray:
    """Encoded bytes before each row."""
    return np.concatenate(([0], np.cumsum(images[IMAGE_BYTES].fill_null(TYPICAL_IMAGE_BYTES).to_numpy())))


def _slice_end(total: np.ndarray, start: int, most: int) -> int:
    """Where what begins at a row ends, so that it holds at most `MAX_UNIT_BYTES`, unless one image alone is larger."""
    by_bytes = int(np.searchsorted(total, total[start] + MAX_UNIT_BYTES, side="right")) - 1
    return min(most, max(by_bytes, start + 1))


def first_row_samples(store: Store, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """A few rows of the first part, and then of all, for whoever wants to try whether images can be got."""
    for some in (parts[:1], parts) if len(parts) > 1 else (parts,):
        yield read_row_sample(store, some, _FIRST_SAMPLE_ROWS)


def read_row_sample(store: Store, parts: Sequence[Part], count: int) -> pa.Table:
    """Read at most so many rows from all over the plan.

    Args:
        store: The output with the plan.
        parts: As `all_parts` gives them.
        count: How many rows.
    """
    some = [parts[at] for at in _even_positions(len(parts), min(count, _SAMPLED_PARTS))]
    tables = [take_evenly(read_plan_part(store, part), -(-count // len(some))) for part in some]
    return pa.concat_tables(tables).slice(0, count).combine_chunks()


def take_evenly(rows: pa.Table, count: int) -> pa.Table:
    """At most so many rows, evenly spread."""
    return rows.take(pa.array(_even_positions(rows.num_rows, count), pa.int64()))


def _even_positions(length: int, count: int) -> list[int]:
    """At most so many positions, evenly spread over a length."""
    few = min(length, count)
    return [at * length // few for at in range(few)]


def read_unit_rows(output: Location, unit: RowUnit) -> pa.Table:
    """Read the rows of a unit from the plan."""
    file, lows, highs = _open_cached_part(output, unit.part)
    groups = np.flatnonzero((lows < unit.high) & (highs >= unit.low))
    table = without_move_column(file.read_row_groups(groups.tolist()))
    first = int(np.searchsorted(table[ROW_ID].to_numpy(), unit.low))
    return table.slice(first, unit.row_count).combine_chunks()


@lru_cache(maxsize=4)
def _open_cached_part(output: Location, path: str) -> tuple[pq.ParquetFile, np.ndarray, np.ndarray]:
    """Open a part once per process; with the lowest and highest row id of each of its row groups."""
    store = open_store(output)
    file = open_part(store.open_object(path), f"{store.root}/{path}")
    at = file.schema_arrow.names.index(ROW_ID)
    facts = [file.metadata.row_group(group).column(at).statistics for group in range(file.num_row_groups)]
    return file, np.array([fact.min for fact in facts]), np.array([fact.max for fact in facts])
