"""Images of a table as rows of the plan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from cvbatch.errors import ImageError
from cvbatch.sources.entries import ListingReport
from cvbatch.sources.fetch.blob import BrokenContainerError, ByteBlob
from cvbatch.sources.suffixes import skipped_kind
from cvbatch.sources.tables.arrow import ArrowTable
from cvbatch.sources.tables.columns import explain_no_images, find_image_column, offered_columns
from cvbatch.sources.tables.parquet import ParquetTable

DAMAGE: Final = (pa.ArrowException, LookupError, OSError, StopIteration, UnicodeError)
"""Errors of reading a damaged table; they include errors of the system."""
TABLE_SUFFIXES: Final = (b".parquet", b".arrow", b".feather")
_NO_COLUMN: Final = "NoImageColumn"
_STATE: Final = b"state.json"
"""File in which `datasets` lists the data files of a folder; its cache files are in the same folder."""


class ImageTable:
    """A table file.

    Args:
        blob: Bytes of the file.
        image_column_name: Column that the job names, if it names one.
        metadata: Whether to keep its other columns.

    Raises:
        BrokenContainerError: If it cannot be read.
        ImageError: `NoImageColumn`, if several columns could be the images, or the expected one has another type.
    """

    def __init__(self, blob: ByteBlob, image_column_name: str | None, *, metadata: bool) -> None:
        self._location = blob.location
        self._metadata = metadata
        try:
            self._table = open_table(blob)
        except DAMAGE as error:
            raise BrokenContainerError(first_line_of_error(error)) from error
        schema, is_data = self._table.schema, _is_table_data(blob)
        try:
            self._image_column = find_image_column(schema, image_column_name) if is_data else None
        except BrokenContainerError as error:
            raise ImageError(_NO_COLUMN, str(error)) from None
        if is_data and self._image_column is None and (explanation := explain_no_images(schema, image_column_name)):
            raise ImageError(_NO_COLUMN, explanation)

    @property
    def holds_images(self) -> bool:
        """Whether one of its columns holds images."""
        return self._image_column is not None

    def extra_schema(self) -> pa.Schema | None:
        """The extra columns that it offers; None if it has no images."""
        if self._image_column is None:
            return None
        return offered_columns(self._table.schema, self._image_column) if self._metadata else pa.schema([])

    def entry_tables(
        self, modified: int | None, extra_columns: pa.Schema, listing: ListingReport
    ) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and the extra columns; see `Archive.entry_tables`."""
        if self._image_column is None:
            listing.skipped[skipped_kind(self._location)] += 1
            return
        try:
            yield from self._table.entry_tables(self._image_column, modified, extra_columns)
        except DAMAGE as error:
            raise BrokenContainerError(first_line_of_error(error)) from error


def open_table(blob: ByteBlob) -> ParquetTable | ArrowTable:
    """Open a table file by its suffix.

    Raises:
        ArrowException: If the file has another format.
        OSError: If the file is damaged or cannot be read.
    """
    return ParquetTable(blob) if blob.location.lower().endswith(b".parquet") else ArrowTable(blob)


def first_line_of_error(error: Exception) -> str:
    """First line of the message of a library."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_table_data(blob: ByteBlob) -> bool:
    name = os.path.basename(blob.location)
    if not name.endswith(b".arrow"):
        return True
    try:
        state_file = blob.open_sibling(_STATE)
        state = json.loads(state_file.read_range(0, state_file.byte_size()))
        files = {os.fsencode(file["filename"]) for file in state["_data_files"]}
    except (ImageError, OSError, LookupError, TypeError, ValueError):
        return True
    return name in files
