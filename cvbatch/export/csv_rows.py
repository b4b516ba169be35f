"""CSV: one row per image, with lists as JSON, or one row per box, segment or label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cvbatch.errors import UsageError
from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.coordinates import CoordinateSystems, points_on_earth
from cvbatch.export.element_json import EDGES, element_fields
from cvbatch.export.image_columns import BATCH_COLUMNS, find_image_columns
from cvbatch.export.json_text import lists_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.vectors import vector_columns
from cvbatch.results.elements import ELEMENT_COLUMNS
from cvbatch.schema import GEO_TRANSFORM

PER_IMAGE: Final = "images"
PER_ELEMENT: Final = "elements"


class CsvExporter(Exporter):
    """Text as UTF-8 with a header; missing values are empty."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        make_rows = {PER_IMAGE: self._image_rows, PER_ELEMENT: self._element_rows}.get(
            self.job.options.rows or PER_IMAGE
        )
        if make_rows is None:
            raise UsageError(f"rows: expected {PER_IMAGE} or {PER_ELEMENT}, got {self.job.options.rows!r}")
        self._systems = CoordinateSystems()
        columns = [*BATCH_COLUMNS, *find_image_columns(self.job.opened), *vector_columns(self.model)]
        writer: pacsv.CSVWriter | None = None
        with self.job.target.open_file() as file:
            for batch in self.job.iter_batches(columns[len(BATCH_COLUMNS) :]):
                table = _flat_table(make_rows(batch))
                writer = writer or pacsv.CSVWriter(file, table.schema)
                writer.write_table(table)
            if writer is None:
                file.write(",".join(f'"{name}"' for name in columns).encode() + b"\n")
            else:
                writer.close()
        return {}

    def _image_rows(self, batch: ImageBatch) -> pa.Table:
        """Labels as plain columns, since an image has at most one; lists of boxes and segments as JSON."""
        lists = ELEMENT_COLUMNS.get(self.model.task)
        if lists is None:
            positions = pa.array(batch.offsets[:-1], mask=np.diff(batch.offsets) == 0)
            labels = batch.elements.take(positions)
            return _join_columns(batch.images, labels)
        table = batch.images.append_column("count", pa.array(np.diff(batch.offsets)))
        for name, texts in element_fields(batch).items():
            list_name = lists[EDGES[0] if name == "box" else name].list_name
            table = table.append_column(list_name, lists_to_json(texts, batch.offsets))
        return table

    def _element_rows(self, batch: ImageBatch) -> pa.Table:
        elements = batch.elements
        if "mask" in elements.column_names:
            position = elements.column_names.index("mask")
            elements = elements.set_column(position, "mask", elements["mask"].cast(pa.string()))
        if GEO_TRANSFORM in batch.images.column_names and EDGES[0] in elements.column_names:
            elements = _join_columns(elements, self._centres(batch))
        return _join_columns(batch.images.take(pa.array(batch.image_indices)), elements)

    def _centres(self, batch: ImageBatch) -> pa.Table:
        """Longitude and latitude of the centre of each box; null where they are not known."""
        left, top, right, bottom = (batch.elements[edge].to_numpy().astype(np.float64) for edge in EDGES)
        columns, rows = (left + right)[:, None] / 2, (top + bottom)[:, None] / 2
        centres = points_on_earth(batch, self._systems, columns, rows)[:, 0]
        centres[~np.isfinite(centres)] = np.nan
        arrays = [pa.array(centres[:, axis], from_pandas=True) for axis in (0, 1)]
        return pa.table(arrays, names=["longitude", "latitude"])


def _join_columns(left: pa.Table, right: pa.Table) -> pa.Table:
    for name, column in zip(right.column_names, right.columns, strict=True):
        left = left.append_column(name, column)
    return left


def _flat_table(table: pa.Table) -> pa.Table:
    """Columns that a cell cannot hold become JSON; missing values stay missing."""
    for position, column in enumerate(table.columns):
        kind = column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            values = column.combine_chunks()
            texts = pc.if_else(pc.is_valid(values), values_to_json(values), None)
            table = table.set_column(position, table.column_names[position], texts)
        elif pa.types.is_duration(kind):
            table = table.set_column(position, table.column_names[position], column.cast(pa.int64()))
    return table
