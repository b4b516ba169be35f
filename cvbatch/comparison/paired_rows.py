"""The rows of two runs side by side, in memory that does not grow with the runs.

Both runs are read at the same pace. Rows whose counterpart is still to come wait; if too many wait, because the runs
have different orders, they go to files by number, and are joined file by file at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.comparison.pairing import NO_PAIR, PairedRows
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import ROW_ID

TablePair = tuple[pa.Table, pa.Table]

_PAIR: Final = "_pair"
_BUCKETS: Final = 64
_MOST_WAITING_BYTES: Final = 256 << 20


def iter_paired_rows(
    opened: tuple[OpenedOutput, OpenedOutput],
    pairs: PairedRows,
    columns: tuple[Sequence[str], Sequence[str]],
    batch_rows: int,
) -> Iterator[TablePair]:
    """Read the rows of all pairs.

    Args:
        opened: The two runs.
        pairs: Which rows belong together.
        columns: Columns of each run.
        batch_rows: Most rows that are read at once.

    Yields:
        Two tables of the same length, whose rows belong together.
    """
    streams = [_iter_side(opened[side], pairs, side, columns[side], batch_rows) for side in (0, 1)]
    with tempfile.TemporaryDirectory(prefix="cvbatch-compare-") as folder, _Buckets(Path(folder)) as buckets:
        waiting: list[list[pa.Table]] = [[], []]
        ended = False
        while not ended:
            ended = True
            for side in (0, 1):
                if (table := next(streams[side], None)) is not None:
                    waiting[side].append(table)
                    ended = False
            matched, waiting = _match(waiting)
            if matched is not None:
                yield matched
            if sum(table.nbytes for tables in waiting for table in tables) > _MOST_WAITING_BYTES:
                buckets.add_rows(waiting)
                waiting = [[], []]
        for tables in buckets.iter_buckets(waiting):
            matched, _ = _match(tables)
            if matched is not None:
                yield matched


def _iter_side(
    opened: OpenedOutput, pairs: PairedRows, side: int, columns: Sequence[str], batch_rows: int
) -> Iterator[pa.Table]:
    selection = RowSelection(columns=list(dict.fromkeys([ROW_ID, *columns])))
    for table in iter_rows(opened, selection, batch_rows=batch_rows):
        indices = pairs.pair_indices(side, table[ROW_ID].to_numpy())
        kept = np.flatnonzero(indices != NO_PAIR)
        yield table.take(kept).append_column(_PAIR, pa.array(indices[kept]))


def _match(waiting: list[list[pa.Table]]) -> tuple[TablePair | None, list[list[pa.Table]]]:
    """Take out the rows of which both sides are there."""
    if not waiting[0] or not waiting[1]:
        return None, waiting
    tables = [pa.concat_tables(side) for side in waiting]
    numbers = [table[_PAIR].to_numpy() for table in tables]
    _, *places = np.intersect1d(numbers[0], numbers[1], assume_unique=True, return_indices=True)
    if not len(places[0]):
        return None, [[table] for table in tables]
    matched = tuple(
        table.take(rows).drop_columns([_PAIR]).combine_chunks() for table, rows in zip(tables, places, strict=True)
    )
    rest = [
        table.take(np.setdiff1d(np.arange(table.num_rows), rows, assume_unique=True))
        for table, rows in zip(tables, places, strict=True)
    ]
    return (matched[0], matched[1]), [[table] if table.num_rows else [] for table in rest]


class _Buckets:
    """Rows that wait in files, by the number of their pair."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[tuple[int, int], pa.RecordBatchStreamWriter] = {}
        self._open_files = ExitStack()

    def __enter__(self) -> _Buckets:
        return self

    def __exit__(self, *_: object) -> None:
        self._open_files.close()

    def add_rows(self, waiting: list[list[pa.Table]]) -> None:
        """Append rows of both sides to the files."""
        for side, tables in enumerate(waiting):
            for table in tables:
                numbers = table[_PAIR].to_numpy() % _BUCKETS
                for bucket in np.unique(numbers).tolist():
                    self._writer(side, bucket, table.schema).write_table(table.take(np.flatnonzero(numbers == bucket)))

    def iter_buckets(self, waiting: list[list[pa.Table]]) -> Iterator[list[list[pa.Table]]]:
        """Rows of both sides, file by file, with those that wait in memory."""
        if not self._writers:
            yield waiting
            return
        self.add_rows(waiting)
        self._open_files.close()
        for bucket in range(_BUCKETS):
            yield [self._read(side, bucket) for side in (0, 1)]

    def _writer(self, side: int, bucket: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if (side, bucket) not in self._writers:
            sink = self._open_files.enter_context(pa.OSFile(str(self._path(side, bucket)), "wb"))
            self._writers[side, bucket] = self._open_files.enter_context(pa.ipc.new_stream(sink, schema))
        return self._writers[side, bucket]

    def _read(self, side: int, bucket: int) -> list[pa.Table]:
        if (side, bucket) not in self._writers:
            return []
        with pa.OSFile(str(self._path(side, bucket))) as file, pa.ipc.open_stream(file) as stream:
            return [stream.read_all()]

    def _path(self, side: int, bucket: int) -> Path:
        return self._folder / f"{side}-{bucket}.arrow"
