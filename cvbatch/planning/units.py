"""Units: consecutive rows of the plan that move through the cluster together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.planning.plan import Part, read_part
from cvbatch.schema import ROW_ID
from cvbatch.writing.ranges import Range
from cvbatch.writing.store import Store, open_store

MAX_UNIT_BYTES: Final = 32 << 20
"""A unit holds at most so many encoded bytes, unless one image alone is larger."""
TYPICAL_IMAGE_BYTES: Final = 200_000
"""Stands for sizes that the listing did not tell."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows `low` … `high`−1, all of one plan part."""

    part: str
    low: int
    high: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.high - self.low


def cut(
    store: Store, parts: Sequence[Part], missing: Iterable[Range], unit_rows: int, *, first_rows: int | None = None
) -> Iterator[Unit]:
    """Cut missing rows into units of at most `unit_rows` rows and `MAX_UNIT_BYTES` encoded bytes.

    Args:
        store: The output with the plan.
        parts: All parts of the plan, in order.
        missing: Ranges of row ids in order.
        unit_rows: Most rows of a unit.
        first_rows: Most rows of the first one, so that something is done early.
    """
    ranges = list(missing)
    rows = first_rows or unit_rows
    at = 0
    for part in parts:
        first, last = part["first_row_id"], part["first_row_id"] + part["rows"]
        while at < len(ranges) and ranges[at][1] <= first:
            at += 1
        end_at = bisect_left(ranges, (last,), lo=at)
        inside = [(max(low, first), min(high, last)) for low, high in ranges[at:end_at]]
        if not inside:
            continue
        sizes = read_part(store, part, ["image_bytes"])["image_bytes"].fill_null(TYPICAL_IMAGE_BYTES).to_numpy()
        total = np.concatenate(([0], np.cumsum(sizes)))
        for low, high in inside:
            while low < high:
                by_bytes = first + int(np.searchsorted(total, total[low - first] + MAX_UNIT_BYTES, side="right")) - 1
                end = min(high, low + rows, max(by_bytes, low + 1))
                yield Unit(part["path"], low, end)
                low, rows = end, unit_rows


def read_unit(output: str, unit: Unit) -> pa.Table:
    """Read the rows of a unit from the plan."""
    file, starts = _open_part(output, unit.part)
    groups = np.flatnonzero((starts[:-1] < unit.high) & (starts[1:] > unit.low))
    table = file.read_row_groups(groups.tolist())
    return table.slice(unit.low - int(starts[groups[0]]), unit.rows).combine_chunks()


@lru_cache(maxsize=4)
def _open_part(output: str, path: str) -> tuple[pq.ParquetFile, np.ndarray]:
    """Open a part once per process; its row groups begin at the returned row ids."""
    file = pq.ParquetFile(open_store(output).open(path))
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    first = file.read_row_group(0, columns=[ROW_ID])[ROW_ID][0].as_py()
    return file, first + np.concatenate(([0], np.cumsum([group.num_rows for group in groups])))
