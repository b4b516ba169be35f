"""The images of a table as rows of the plan."""

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
"""What reading a damaged table raises; what the system reports as well."""
TABLE_SUFFIXES: Final = (b".parquet", b".arrow", b".feather")
_NO_COLUMN: Final = "NoImageColumn"
_STATE: Final = b"state.json"
"""Where `datasets` writes which files of a folder are its data; its caches lie beside them."""


class ImageTable:
    """A table file.

    Args:
        blob: Its bytes.
        image_column: The column that the job names, if it does.
        metadata: Whether its other columns come along.

    Raises:
        BrokenContainerError: If it cannot be read.
        ImageError: `NoImageColumn`, if several columns could be the images, or the one that is meant has a wrong type.
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
            self._image = find_image_column(schema, image_column_name) if is_data else None
        except BrokenContainerError as error:
            raise ImageError(_NO_COLUMN, str(error)) from None
        if is_data and self._image is None and (why := explain_no_images(schema, image_column_name)):
            raise ImageError(_NO_COLUMN, why)

    @property
    def holds_images(self) -> bool:
        """Whether one of its columns holds images."""
        return self._image is not None

    def extra_schema(self) -> pa.Schema | None:
        """What it offers besides images; None if it has no images."""
        if self._image is None:
            return None
        return offered_columns(self._table.schema, self._image) if self._metadata else pa.schema([])

    def entry_tables(self, modified: int | None, carried: pa.Schema, listing: ListingReport) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and what is carried; see `Archive.entry_tables`."""
        if self._image is None:
            listing.skipped[skipped_kind(self._location)] += 1
            return
        try:
            yield from self._table.entry_tables(self._image, modified, carried)
        except DAMAGE as error:
            raise BrokenContainerError(first_line_of_error(error)) from error


def open_table(blob: ByteBlob) -> ParquetTable | ArrowTable:
    """Open a table file by its suffix.

    Raises:
        ArrowException: If it is something else.
        OSError: If it is damaged, or cannot be read.
    """
    return ParquetTable(blob) if blob.location.lower().endswith(b".parquet") else ArrowTable(blob)


def first_line_of_error(error: Exception) -> str:
    """What a library says first."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_table_data(blob: ByteBlob) -> bool:
    name = os.path.basename(blob.location)
    if not name.endswith(b".arrow"):
        return True
    try:
        beside = blob.open_sibling(_STATE)
        state = json.loads(beside.read_range(0, beside.byte_size()))
        files = {os.fsencode(file["filename"]) for file in state["_data_files"]}
    except (ImageError, OSError, LookupError, TypeError, ValueError):
        return True
    return name in files
