"""One pass over the rows of a run for everything that is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import OK, SOURCE_REMOVED, STATUS


class RowCollector(Protocol):
    """Takes what it needs from the rows of a run, in bounded memory."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns of the predictions that it needs."""
        ...

    def add_rows(self, rows: pa.Table) -> None:
        """Take some rows."""
        ...


@dataclass(slots=True)
class RowCounts:
    """Rows of a run; those of removed images count as nothing else."""

    usable: int = 0
    failed: int = 0
    removed: int = 0


def scan_rows(opened: OpenedOutput, usable: Sequence[RowCollector], failed: Sequence[RowCollector] = ()) -> RowCounts:
    """Read the committed rows once.

    Args:
        opened: The run.
        usable: Take the rows without an error.
        failed: Take the rows with one.
    """
    needed = [name for collector in (*usable, *failed) for name in collector.columns]
    columns, counts = list(dict.fromkeys([STATUS, SOURCE_REMOVED, *needed])), RowCounts()
    for table in iter_rows(opened, RowSelection(columns=columns)):
        is_removed = table[SOURCE_REMOVED]
        counts.removed += pc.sum(is_removed).as_py() or 0
        present = table.filter(pc.invert(is_removed))
        is_ok = pc.equal(present[STATUS], OK)
        good, bad = present.filter(is_ok), present.filter(pc.invert(is_ok))
        counts.usable += good.num_rows
        counts.failed += bad.num_rows
        for rows, collectors in ((good, usable), (bad, failed)):
            if rows.num_rows:
                for collector in collectors:
                    collector.add_rows(rows)
    return counts
