"""Readers of the rows of one table that a unit needs."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import MAX_IMAGE_BYTES
from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import LazyBlob, archive_changed_error
from cvbatch.sources.fetch.container_reader import ContainerReader, Wanted
from cvbatch.sources.fetch.local import read_local, too_many_bytes_error
from cvbatch.sources.tables.arrow import ArrowTable
from cvbatch.sources.tables.image_types import Value
from cvbatch.sources.tables.listing import DAMAGE, first_line_of_error, open_table
from cvbatch.sources.tables.parquet import ParquetTable

_Group = tuple[str, int]
"""A column name and the number of a row group or record batch; −1 if a row does not exist."""


class ByteRangeReader(ContainerReader):
    """Reads images that are byte ranges of an Arrow file."""

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `TooManyBytes`, or `ArchiveChanged` if the file has another size.
        """
        span, blob = self._wanted[index][0], self._blob.open_once()
        offset, size = span.byte_range
        if size > MAX_IMAGE_BYTES:
            raise too_many_bytes_error(size, MAX_IMAGE_BYTES)
        if blob.byte_size() != span.check:
            raise archive_changed_error()
        return blob.read_range(offset, size)


class RowGroupReader(ContainerReader):
    """Reads each row group or record batch once, with all requested images in it."""

    def __init__(self, blob: LazyBlob, wanted_spans: Sequence[Wanted]) -> None:
        super().__init__(blob, wanted_spans)
        self._folder = os.path.dirname(blob.location)
        self._table: ParquetTable | ArrowTable | None = None
        self._groups: dict[_Group, set[int]] = {}
        self._values: dict[_Group, dict[int, Value] | ImageError] = {}
        self._lock = threading.Lock()

    def read_image(self, index: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `DamagedTable`, `ArchiveChanged`, `NoImage` or `TooManyBytes`; as `read_local` if the table
                only names a file.
        """
        with self._lock:
            table = self._open_once()
            group = _group_of_span(table, self._wanted[index][0])
            if group not in self._values:
                self._values[group] = self._load_group(table, group)
            values = self._values[group]
            if isinstance(values, ImageError):
                raise ImageError(values.kind, str(values))
            row = self._wanted[index][0].row
            if row not in values:
                raise archive_changed_error()
            value = values.pop(row)
        return self._encoded_bytes(*value)

    def _open_once(self) -> ParquetTable | ArrowTable:
        if self._table is None:
            try:
                self._table = open_table(self._blob.open_once())
            except DAMAGE as error:
                raise _classify_error(error) from error
            for span, _ in self._wanted:
                self._groups.setdefault(_group_of_span(self._table, span), set()).add(span.row or 0)
        return self._table

    def _load_group(self, table: ParquetTable | ArrowTable, group: _Group) -> dict[int, Value] | ImageError:
        column, number = group
        try:
            if number < 0 or column not in table.schema.names:
                return archive_changed_error()
            return dict(table.read_values(number, column, list(self._groups[group])))
        except DAMAGE as error:
            image_error = _classify_error(error)
            if isinstance(image_error, ImageError):
                return image_error
            raise

    def _encoded_bytes(self, value: bytes | None, path: str | None) -> bytes:
        if value is None and path:
            return read_local(os.path.join(self._folder, os.fsencode(path)), max_bytes=MAX_IMAGE_BYTES)
        if value is None:
            raise ImageError("NoImage", "the table holds no image in this row")
        if len(value) > MAX_IMAGE_BYTES:
            raise too_many_bytes_error(len(value), MAX_IMAGE_BYTES)
        return value


def _group_of_span(table: ParquetTable | ArrowTable, span: Span) -> _Group:
    number = table.row_group_of(span.row or 0) if isinstance(table, ParquetTable) else span.offset or 0
    return span.column or "", number


def _classify_error(error: Exception) -> Exception:
    """Return `DamagedTable` for permanent damage, and errors of the system, which may pass, unchanged."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ImageError("DamagedTable", first_line_of_error(error))
