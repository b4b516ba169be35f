"""Arrow files and streams; in an uncompressed file, an image is a range of bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from cvbatch.sources.entries import CHUNK_ROWS, Span, member_table
from cvbatch.sources.extra_columns import cast_or_null
from cvbatch.sources.fetch.blob import ByteBlob, open_buffered, read_all_bytes
from cvbatch.sources.tables.columns import name_beside_image
from cvbatch.sources.tables.image_types import (
    Value,
    encoded_images,
    field_beside_bytes,
    fields_beside_bytes,
    image_values,
)

ARROW: Final = "arrow"
RANGE: Final = "range"
_FILE_MAGIC: Final = b"ARROW1"


class ArrowTable:
    """An Arrow file or stream with images.

    Args:
        blob: Bytes of the file.
    """

    def __init__(self, blob: ByteBlob) -> None:
        self._blob = blob
        self._is_file = blob.read_range(0, len(_FILE_MAGIC)) == _FILE_MAGIC
        self.schema: pa.Schema = self._open_reader(pa.PythonFile(open_buffered(blob))).schema

    def entry_tables(self, image_column: str, modified: int | None, extra_columns: pa.Schema) -> Iterator[pa.Table]:
        """Yield one entry per row of the table."""
        file_bytes = read_all_bytes(self._blob)
        first_row = 0
        for number, batch in enumerate(self.record_batches(file_bytes)):
            # sliced because each row is briefly a Python object; the mapped bytes themselves need no memory
            for start in range(0, batch.num_rows, CHUNK_ROWS.current_value):
                rows = batch.slice(start, CHUNK_ROWS.current_value)
                names = [str(first_row + start + index) for index in range(rows.num_rows)]
                sizes, spans = self._image_spans(rows.column(image_column), image_column, file_bytes, number, start)
                table = member_table(self._blob.location, modified, names, sizes, spans)
                for column in extra_columns:
                    table = table.append_column(column, _batch_column(rows, image_column, column))
                yield table
            first_row += batch.num_rows

    def record_batches(self, file_bytes: pa.Buffer | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the record batches in order; from `file_bytes` if they are already in memory."""
        file = pa.PythonFile(open_buffered(self._blob)) if file_bytes is None else pa.BufferReader(file_bytes)
        reader = self._open_reader(file)
        batches = (
            (reader.get_batch(number) for number in range(reader.num_record_batches))
            if isinstance(reader, ipc.RecordBatchFileReader)
            else reader
        )
        for batch in batches:
            batch.validate(full=True)  # offsets of a damaged file can point anywhere
            yield batch

    def read_values(self, number: int, image_column: str, rows: Sequence[int]) -> Mapping[int, Value]:
        """Read the images in rows of a record batch; rows beyond its end are missing in the result."""
        options = ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(image_column)], use_threads=False)
        reader = self._open_reader(pa.PythonFile(open_buffered(self._blob)), options)
        if isinstance(reader, ipc.RecordBatchFileReader):
            batch = reader.get_batch(number)
        else:
            batch = next(itertools.islice(reader, number, None))
        batch.validate(full=True)
        valid_rows = [row for row in rows if row < batch.num_rows]
        return dict(zip(valid_rows, image_values(batch.column(0), valid_rows), strict=True))

    def _open_reader(
        self, file: pa.NativeFile, options: ipc.IpcReadOptions | None = None
    ) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
        return ipc.open_file(file, options=options) if self._is_file else ipc.open_stream(file, options=options)

    def _image_spans(
        self, column: pa.Array, image_column: str, file_bytes: pa.Buffer, number: int, start: int
    ) -> tuple[list[int | None], list[Span]]:
        """Sizes and spans of images; `column` is a slice of the record batch `number` from row `start` on."""
        values = encoded_images(column)
        sizes = pc.binary_length(values).to_pylist()
        offsets = _value_ranges(values, file_bytes)
        spans = [
            Span(ARROW, offset=number, row=start + index, column=image_column)
            if offsets is None or size is None
            else Span(RANGE, offset=int(offsets[index]), size=size, check=file_bytes.size)
            for index, size in enumerate(sizes)
        ]
        return sizes, spans


def _value_ranges(values: pa.Array, file_bytes: pa.Buffer) -> Any:
    """Offset of each value in the file; None if the values were decompressed into other memory."""
    _, offsets, data = values.buffers()
    if (
        data is None
        or not file_bytes.address <= data.address <= data.address + data.size <= file_bytes.address + file_bytes.size
    ):
        return None
    offset_type = np.int32 if pa.types.is_binary(values.type) else np.int64
    starts = np.frombuffer(offsets, offset_type)[values.offset : values.offset + len(values)]
    return starts.astype(np.int64) + (data.address - file_bytes.address)


def _batch_column(batch: pa.RecordBatch, image_column: str, column: pa.Field) -> pa.ChunkedArray:
    if column.name in batch.schema.names:
        return cast_or_null(pa.chunked_array([batch.column(column.name)]), column.type)
    images = batch.column(image_column)
    for field in fields_beside_bytes(images.type):
        if column.name == name_beside_image(image_column, field.name):
            return cast_or_null(pa.chunked_array([field_beside_bytes(images, field.name)]), column.type)
    return pa.chunked_array([pa.nulls(batch.num_rows, column.type)])
