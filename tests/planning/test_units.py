"""Units cover exactly what is missing, and none is too large."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.output.row_ranges import RowRanges
from cvbatch.output.store import LocalStore
from cvbatch.planning import units
from cvbatch.planning.parts import Part, write_new_parts
from cvbatch.planning.units import RowUnit, cut_into_units, read_unit_rows
from cvbatch.sources.entries import ListingReport, entry_table

MAX_BYTES, TYPICAL = units.MAX_UNIT_BYTES, units.TYPICAL_IMAGE_BYTES
_SHARES = [3, 0, None, 100, 1, 1, 2, 60, 60, 7, None, 5, 5, 5, 5, 5]
"""In parts of 64 of what a unit may hold."""
SIZES = [share and share * MAX_BYTES // 64 for share in _SHARES] + [MAX_BYTES - TYPICAL + 1, None]
PART_ROWS = 7


class Sized:
    """A source of images of given sizes."""

    extra_columns = pa.schema([])
    positional = False

    def __init__(self) -> None:
        self.listing = ListingReport()

    def iter_chunks(self) -> list[pa.Table]:
        names = [b"/%d.jpg" % row for row in range(len(SIZES))]
        table = entry_table(names, SIZES, [None] * len(SIZES))
        return [table.slice(start, PART_ROWS) for start in range(0, len(SIZES), PART_ROWS)]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, list[Part]]:
    store = LocalStore(str(tmp_path_factory.mktemp("out")))
    parts, _ = write_new_parts(store, Sized(), first_row_id=0, limit=None)  # type: ignore[arg-type]  # a list will do
    for path in (store.local_path(part["path"]) for part in parts):
        pq.write_table(pq.read_table(path), path, row_group_size=2)  # as of a plan of many rows
    return store, list(parts)


def units_of(plan: tuple[LocalStore, list[Part]], rows: set[int], unit_rows: int) -> list[RowUnit]:
    return list(cut_into_units(*plan, RowRanges((row, row + 1) for row in rows), unit_rows))


def test_slices_hold_at_most_the_bytes_of_a_unit() -> None:
    found = [
        piece["image_bytes"].to_pylist() for piece in units.slice_by_bytes(pa.concat_tables(Sized().iter_chunks()))
    ]
    assert [size for sizes in found for size in sizes] == SIZES
    totals = [sum(TYPICAL if size is None else size for size in sizes) for sizes in found]
    assert [total for total in totals if total > MAX_BYTES] == [100 * MAX_BYTES // 64], "one image alone may be larger"


@settings(deadline=None)
@given(st.sets(st.integers(0, len(SIZES) - 1)), st.integers(1, 9))
def test_units_cover_all_missing_rows(plan: tuple[LocalStore, list[Part]], rows: set[int], unit_rows: int) -> None:
    found = units_of(plan, rows, unit_rows)
    assert [row for unit in found for row in range(unit.low, unit.high)] == sorted(rows)
    for unit in found:
        assert 1 <= unit.row_count <= unit_rows
        assert unit.row_count == 1 or sum(size_of(row) for row in range(unit.low, unit.high)) <= MAX_BYTES
        assert unit.low // PART_ROWS == (unit.high - 1) // PART_ROWS, "a unit lies in one part"


@settings(deadline=None)
@given(st.sets(st.integers(0, len(SIZES) - 1), min_size=1), st.integers(1, 9))
def test_units_are_as_large_as_possible(plan: tuple[LocalStore, list[Part]], rows: set[int], unit_rows: int) -> None:
    found = units_of(plan, rows, unit_rows)
    for one, other in itertools.pairwise(found):
        if one.high == other.low and one.part == other.part and one.row_count < unit_rows:
            assert sum(size_of(row) for row in range(one.low, one.high + 1)) > MAX_BYTES


def size_of(row: int) -> int:
    size = SIZES[row]
    return TYPICAL if size is None else size


@settings(deadline=None)
@given(st.integers(0, len(SIZES) - 1), st.integers(1, PART_ROWS))
def test_a_unit_reads_its_own_rows(plan: tuple[LocalStore, list[Part]], low: int, count: int) -> None:
    store, parts = plan
    part = parts[low // PART_ROWS]
    high = min(low + count, part["first_row_id"] + part["rows"])
    table = read_unit_rows(store.root, RowUnit(part["path"], low, high))
    assert table["row_id"].to_pylist() == list(range(low, high))
    assert table["image_uri"].to_pylist() == [f"/{row}.jpg" for row in range(low, high)]
    assert table["row_id"].num_chunks == 1


def test_unit_rows_limits_a_unit(tmp_path: Path) -> None:
    assert units.MAX_UNIT_BYTES == 32 << 20
    assert RowUnit("p", 3, 8).row_count == 5


def test_the_first_unit_can_be_smaller(plan: tuple[LocalStore, list[Part]]) -> None:
    found = list(cut_into_units(*plan, [(7, 18)], 4, first_rows=1))
    assert [(unit.low, unit.high) for unit in found] == [
        (7, 8),
        (8, 9),
        (9, 13),
        (13, 14),
        (14, 16),
        (16, 17),
        (17, 18),
    ]
