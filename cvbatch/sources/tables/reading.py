"""The rows of one table that a unit asks for."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import MAX_IMAGE_BYTES
from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import OpenedOnce, changed
from cvbatch.sources.fetch.container_reader import Reader, Wanted
from cvbatch.sources.fetch.local import read_local, too_large
from cvbatch.sources.tables.arrow import ArrowTable
from cvbatch.sources.tables.image_types import Value
from cvbatch.sources.tables.listing import DAMAGE, first_line, open_table
from cvbatch.sources.tables.parquet import ParquetTable

_Group = tuple[str, int]
"""A column, and the row group or record batch of it that holds a row; −1 is none."""


class Ranges(Reader):
    """Images that are ranges of bytes of an Arrow file."""

    def read(self, at: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `TooManyBytes`, or `ArchiveChanged` if the file has another size.
        """
        span, blob = self._wanted[at][0], self._blob.get()
        offset, size = span.place
        if size > MAX_IMAGE_BYTES:
            raise too_large(size, MAX_IMAGE_BYTES)
        if blob.size() != span.check:
            raise changed()
        return blob.read(offset, size)


class Rows(Reader):
    """Images that are read once with the row group or record batch around them."""

    def __init__(self, blob: OpenedOnce, wanted: Sequence[Wanted]) -> None:
        super().__init__(blob, wanted)
        self._folder = os.path.dirname(blob.location)
        self._table: ParquetTable | ArrowTable | None = None
        self._groups: dict[_Group, set[int]] = {}
        self._values: dict[_Group, dict[int, Value] | ImageError] = {}
        self._lock = threading.Lock()

    def read(self, at: int) -> bytes:
        """Read an image.

        Raises:
            ImageError: `DamagedTable`, `ArchiveChanged`, `NoImage`, `TooManyBytes`, or, where the table only names a
                file, as `read_local`.
        """
        with self._lock:
            table = self._opened()
            group = _group(table, self._wanted[at][0])
            if group not in self._values:
                self._values[group] = self._load(table, group)
            values = self._values[group]
            if isinstance(values, ImageError):
                raise ImageError(values.kind, str(values))
            row = self._wanted[at][0].row
            if row not in values:
                raise changed()
            value = values.pop(row)
        return self._encoded(*value)

    def _opened(self) -> ParquetTable | ArrowTable:
        if self._table is None:
            try:
                self._table = open_table(self._blob.get())
            except DAMAGE as error:
                raise _named(error) from error
            for span, _ in self._wanted:
                self._groups.setdefault(_group(self._table, span), set()).add(span.row or 0)
        return self._table

    def _load(self, table: ParquetTable | ArrowTable, group: _Group) -> dict[int, Value] | ImageError:
        column, number = group
        try:
            if number < 0 or column not in table.schema.names:
                return changed()
            return dict(table.values(number, column, list(self._groups[group])))
        except DAMAGE as error:
            named = _named(error)
            if isinstance(named, ImageError):
                return named
            raise

    def _encoded(self, value: bytes | None, path: str | None) -> bytes:
        if value is None and path:
            return read_local(os.path.join(self._folder, os.fsencode(path)), max_bytes=MAX_IMAGE_BYTES)
        if value is None:
            raise ImageError("NoImage", "the table holds no image in this row")
        if len(value) > MAX_IMAGE_BYTES:
            raise too_large(len(value), MAX_IMAGE_BYTES)
        return value


def _group(table: ParquetTable | ArrowTable, span: Span) -> _Group:
    number = table.group_of(span.row or 0) if isinstance(table, ParquetTable) else span.offset or 0
    return span.column or "", number


def _named(error: Exception) -> Exception:
    """Damage is for good; what the system reports with a number may be better another time."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ImageError("DamagedTable", first_line(error))
