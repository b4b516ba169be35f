"""The images of a run as a source of another one: the same images under the same row ids, without a new listing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import ROW_ID
from cvbatch.sources.entries import CHUNK_ROWS, ENTRY_FIELDS, ListingReport


class PlannedSource:
    """An `ImageSource` that lists what a run has planned, in the order of its row ids.

    Args:
        opened: The run; all its images are planned.
        rows: Number of its images.
        extra_fields: Columns of the new run that this source has, too; null.
    """

    positional = False

    def __init__(self, opened: OpenedOutput, rows: int, extra_fields: Sequence[pa.Field] = ()) -> None:
        self._opened, self._rows = opened, rows
        self.extra_columns = pa.schema(extra_fields)
        self.listing = ListingReport()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """See `ImageSource`."""
        images = PlannedImages(self._opened)
        for low in range(0, self._rows, CHUNK_ROWS.current_value):
            row_ids = np.arange(low, min(self._rows, low + CHUNK_ROWS.current_value))
            tables = [_to_entries(rows) for rows in images.iter_rows(row_ids)]
            chunk = pa.concat_tables(tables).sort_by(ROW_ID).drop_columns([ROW_ID])
            for column in self.extra_columns:
                chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
            yield chunk.combine_chunks()


def _to_entries(rows: pa.Table) -> pa.Table:
    """Row ids and entries; columns that an earlier version did not write are null."""
    schema = pa.schema([rows.schema.field(ROW_ID), *ENTRY_FIELDS])
    columns = [
        rows[column.name].cast(column.type)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
