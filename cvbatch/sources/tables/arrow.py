"""Arrow files and streams: where nothing is compressed, an image is a range of bytes."""

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
        blob: Its bytes.
    """

    def __init__(self, blob: ByteBlob) -> None:
        self._blob = blob
        self._is_file = blob.read_range(0, len(_FILE_MAGIC)) == _FILE_MAGIC
        self.schema: pa.Schema = self._open_reader(pa.PythonFile(open_buffered(blob))).schema

    def entry_tables(self, image: str, modified: int | None, carried: pa.Schema) -> Iterator[pa.Table]:
        """Yield one row per row."""
        whole = read_all_bytes(self._blob)
        row = 0
        for number, batch in enumerate(self.record_batches(whole)):
            # what is mapped need not be sliced for memory, but rows are Python objects for a moment
            for start in range(0, batch.num_rows, CHUNK_ROWS.current_value):
                part = batch.slice(start, CHUNK_ROWS.current_value)
                names = [str(row + start + at) for at in range(part.num_rows)]
                sizes, members = self._image_spans(part.column(image), image, whole, number, start)
                table = member_table(self._blob.location, modified, names, sizes, members)
                for column in carried:
                    table = table.append_column(column, _batch_column(part, image, column))
                yield table
            row += batch.num_rows

    def record_batches(self, whole: pa.Buffer | None = None) -> Iterator[pa.RecordBatch]:
        """Read the record batches in their order; from all its bytes where these are there already."""
        file = pa.PythonFile(open_buffered(self._blob)) if whole is None else pa.BufferReader(whole)
        reader = self._open_reader(file)
        batches = (
            (reader.get_batch(number) for number in range(reader.num_record_batches))
            if isinstance(reader, ipc.RecordBatchFileReader)
            else reader
        )
        for batch in batches:
            batch.validate(full=True)  # offsets of a damaged file lead anywhere
            yield batch

    def read_values(self, number: int, image: str, rows: Sequence[int]) -> Mapping[int, Value]:
        """Read the images in some rows of a record batch."""
        options = ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(image)], use_threads=False)
        reader = self._open_reader(pa.PythonFile(open_buffered(self._blob)), options)
        if isinstance(reader, ipc.RecordBatchFileReader):
            batch = reader.get_batch(number)
        else:
            batch = next(itertools.islice(reader, number, None))
        batch.validate(full=True)
        found = [row for row in rows if row < batch.num_rows]
        return dict(zip(found, image_values(batch.column(0), found), strict=True))

    def _open_reader(
        self, file: pa.NativeFile, options: ipc.IpcReadOptions | None = None
    ) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
        return ipc.open_file(file, options=options) if self._is_file else ipc.open_stream(file, options=options)

    def _image_spans(
        self, column: pa.Array, image: str, whole: pa.Buffer, number: int, start: int
    ) -> tuple[list[int | None], list[Span]]:
        """Sizes and places of the images of a part of a record batch that begins at its row `start`."""
        values = encoded_images(column)
        sizes = pc.binary_length(values).to_pylist()
        places = _value_ranges(values, whole)
        members = [
            Span(ARROW, offset=number, row=start + at, column=image)
            if places is None or size is None
            else Span(RANGE, offset=int(places[at]), size=size, check=whole.size)
            for at, size in enumerate(sizes)
        ]
        return sizes, members


def _value_ranges(values: pa.Array, whole: pa.Buffer) -> Any:
    """Where each value begins in the file; None where they were unpacked into other memory."""
    _, offsets, data = values.buffers()
    if data is None or not whole.address <= data.address <= data.address + data.size <= whole.address + whole.size:
        return None
    kind = np.int32 if pa.types.is_binary(values.type) else np.int64
    starts = np.frombuffer(offsets, kind)[values.offset : values.offset + len(values)]
    return starts.astype(np.int64) + (data.address - whole.address)


def _batch_column(batch: pa.RecordBatch, image: str, column: pa.Field) -> pa.ChunkedArray:
    if column.name in batch.schema.names:
        return cast_or_null(pa.chunked_array([batch.column(column.name)]), column.type)
    held = batch.column(image)
    for field in fields_beside_bytes(held.type):
        if column.name == name_beside_image(image, field.name):
            return cast_or_null(pa.chunked_array([field_beside_bytes(held, field.name)]), column.type)
    return pa.chunked_array([pa.nulls(batch.num_rows, column.type)])
