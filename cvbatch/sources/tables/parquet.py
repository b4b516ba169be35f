"""Parquet: reads only the row groups and columns that are needed."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.sources.entries import CHUNK_ROWS, Span, member_table
from cvbatch.sources.extra_columns import cast_or_null
from cvbatch.sources.fetch.blob import ByteBlob, open_buffered
from cvbatch.sources.tables.columns import name_beside_image
from cvbatch.sources.tables.image_types import Value, field_beside_bytes, fields_beside_bytes, image_values

PARQUET: Final = "parquet"
_BUFFER: Final = 1 << 20
"""Bytes; pages are read one by one, so that a large row group is never completely in memory."""
_BATCH_BYTES: Final = 32 << 20
_MAX_BATCH_ROWS: Final = 1024


class ParquetTable:
    """A Parquet file with images.

    Args:
        blob: Bytes of the file.
    """

    def __init__(self, blob: ByteBlob) -> None:
        self._location = blob.location
        self._file = pq.ParquetFile(
            open_buffered(blob), buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        self.schema: pa.Schema = self._file.schema_arrow
        rows: list[int] = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(rows)]

    def entry_tables(self, image_column: str, modified: int | None, extra_columns: pa.Schema) -> Iterator[pa.Table]:
        """Yield one entry per row; the size of an image is the average of its row group."""
        sources = self._source_columns(image_column, extra_columns)
        for group in range(self._file.num_row_groups):
            size, first_row = self._average_image_bytes(group), self._starts[group]
            for count, columns in self._column_batches(group, sources, extra_columns):
                rows = range(first_row, first_row + count)
                spans = [Span(PARQUET, row=number, column=image_column) for number in rows]
                table = member_table(self._location, modified, list(map(str, rows)), [size] * count, spans)
                for column, values in zip(extra_columns, columns, strict=True):
                    table = table.append_column(column, values)
                yield table
                first_row += count

    def row_group_of(self, row: int) -> int:
        """Row group of a row; −1 if the table has no such row."""
        return bisect.bisect_right(self._starts, row) - 1 if row < self._starts[-1] else -1

    def read_values(self, group: int, image_column: str, rows: Sequence[int]) -> Mapping[int, Value]:
        """Read the images in rows of a row group."""
        pending_rows, values = sorted(rows), dict[int, Value]()
        start = self._starts[group]
        max_rows = int(min(_MAX_BATCH_ROWS, max(1, _BATCH_BYTES // max(1, self._average_image_bytes(group)))))
        for batch in self._file.iter_batches(max_rows, row_groups=[group], columns=[image_column], use_threads=False):
            batch_rows = [row for row in pending_rows if row < start + batch.num_rows]
            pending_rows = pending_rows[len(batch_rows) :]
            values |= zip(batch_rows, image_values(batch.column(0), [row - start for row in batch_rows]), strict=True)
            start += batch.num_rows
            if not pending_rows:
                break
        return values

    def _source_columns(self, image_column: str, extra_columns: pa.Schema) -> dict[str, str]:
        """Map each extra column to the column or field of this file that it comes from."""
        names = {name: name for name in extra_columns.names if name in self.schema.names}
        for field in fields_beside_bytes(self.schema.field(image_column).type):
            if (name := name_beside_image(image_column, field.name)) in extra_columns.names:
                names.setdefault(name, f"{image_column}.{field.name}")
        return names

    def _column_batches(
        self, group: int, sources: Mapping[str, str], extra_columns: pa.Schema
    ) -> Iterator[tuple[int, list[pa.ChunkedArray]]]:
        if not sources:
            remaining_rows = self._starts[group + 1] - self._starts[group]
            while remaining_rows:
                count = min(remaining_rows, CHUNK_ROWS.current_value)
                yield count, [pa.chunked_array([pa.nulls(count, column.type)]) for column in extra_columns]
                remaining_rows -= count
            return
        columns = list(sources.values())
        for batch in self._file.iter_batches(
            CHUNK_ROWS.current_value, row_groups=[group], columns=columns, use_threads=False
        ):
            table = pa.Table.from_batches([batch])
            yield (
                table.num_rows,
                [_cast_or_null_column(table, sources.get(column.name), column.type) for column in extra_columns],
            )

    def _average_image_bytes(self, group: int) -> int:
        # from the row group, as pyarrow aborts the process over damaged column metadata
        metadata = self._file.metadata.row_group(group)
        average: int = metadata.total_byte_size // max(1, metadata.num_rows)
        return average


def _cast_or_null_column(table: pa.Table, source: str | None, kind: pa.DataType) -> pa.ChunkedArray:
    if source is None:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    if source in table.column_names:
        return cast_or_null(table[source], kind)
    name, _, field = source.rpartition(".")
    parts = [field_beside_bytes(chunk, field) for chunk in table[name].chunks]
    return cast_or_null(pa.chunked_array(parts), kind) if parts else pa.chunked_array([], kind)
