"""Parquet: rows are found by their row group, and read without the groups and columns that nobody asks for."""

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
"""Pages are read one after the other, so that a large row group never is in memory as a whole."""
_BATCH_BYTES: Final = 32 << 20
_MOST_BATCH_ROWS: Final = 1024


class ParquetTable:
    """A Parquet file with images.

    Args:
        blob: Its bytes.
    """

    def __init__(self, blob: ByteBlob) -> None:
        self._location = blob.location
        self._file = pq.ParquetFile(
            open_buffered(blob), buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        self.schema: pa.Schema = self._file.schema_arrow
        rows: list[int] = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(rows)]

    def entry_tables(self, image: str, modified: int | None, carried: pa.Schema) -> Iterator[pa.Table]:
        """Yield one row per row; the size of an image is the average of its row group."""
        sources = self._source_columns(image, carried)
        for group in range(self._file.num_row_groups):
            size, row = self._average_image_bytes(group), self._starts[group]
            for count, columns in self._column_batches(group, sources, carried):
                rows = range(row, row + count)
                members = [Span(PARQUET, row=number, column=image) for number in rows]
                table = member_table(self._location, modified, list(map(str, rows)), [size] * count, members)
                for column, values in zip(carried, columns, strict=True):
                    table = table.append_column(column, values)
                yield table
                row += count

    def row_group_of(self, row: int) -> int:
        """The row group of a row; −1 if there is no such row."""
        return bisect.bisect_right(self._starts, row) - 1 if row < self._starts[-1] else -1

    def read_values(self, group: int, image: str, rows: Sequence[int]) -> Mapping[int, Value]:
        """Read the images in some rows of a row group."""
        wanted, found = sorted(rows), dict[int, Value]()
        start = self._starts[group]
        batch_rows = int(min(_MOST_BATCH_ROWS, max(1, _BATCH_BYTES // max(1, self._average_image_bytes(group)))))
        for batch in self._file.iter_batches(batch_rows, row_groups=[group], columns=[image], use_threads=False):
            here = [row for row in wanted if row < start + batch.num_rows]
            wanted = wanted[len(here) :]
            found |= zip(here, image_values(batch.column(0), [row - start for row in here]), strict=True)
            start += batch.num_rows
            if not wanted:
                break
        return found

    def _source_columns(self, image: str, carried: pa.Schema) -> dict[str, str]:
        """Where each carried column of this file comes from."""
        names = {name: name for name in carried.names if name in self.schema.names}
        for field in fields_beside_bytes(self.schema.field(image).type):
            if (name := name_beside_image(image, field.name)) in carried.names:
                names.setdefault(name, f"{image}.{field.name}")
        return names

    def _column_batches(
        self, group: int, sources: Mapping[str, str], carried: pa.Schema
    ) -> Iterator[tuple[int, list[pa.ChunkedArray]]]:
        if not sources:
            left = self._starts[group + 1] - self._starts[group]
            while left:
                count = min(left, CHUNK_ROWS.current_value)
                yield count, [pa.chunked_array([pa.nulls(count, column.type)]) for column in carried]
                left -= count
            return
        columns = list(sources.values())
        for batch in self._file.iter_batches(
            CHUNK_ROWS.current_value, row_groups=[group], columns=columns, use_threads=False
        ):
            table = pa.Table.from_batches([batch])
            yield (
                table.num_rows,
                [_cast_or_null_column(table, sources.get(column.name), column.type) for column in carried],
            )

    def _average_image_bytes(self, group: int) -> int:
        # not of the column alone: pyarrow ends the process over column metadata that is damaged
        facts = self._file.metadata.row_group(group)
        average: int = facts.total_byte_size // max(1, facts.num_rows)
        return average


def _cast_or_null_column(table: pa.Table, source: str | None, kind: pa.DataType) -> pa.ChunkedArray:
    if source is None:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    if source in table.column_names:
        return cast_or_null(table[source], kind)
    name, _, leaf = source.rpartition(".")
    parts = [field_beside_bytes(chunk, leaf) for chunk in table[name].chunks]
    return cast_or_null(pa.chunked_array(parts), kind) if parts else pa.chunked_array([], kind)
