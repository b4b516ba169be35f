"""Containers: files that hold many images, and how they become rows of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol

import pyarrow as pa

from cvbatch.errors import LIST, ImageError, RowError, capture_row_error
from cvbatch.sources.archives.listing import ARCHIVE_SUFFIXES, Archive
from cvbatch.sources.entries import ENTRY_FIELDS, ListingReport, readable_path, unlisted_table
from cvbatch.sources.extra_columns import portable_schema, rename_columns
from cvbatch.sources.fetch.blob import NO_STORAGE_OPTIONS, BrokenContainerError, ByteBlob, open_blob
from cvbatch.sources.filters import NO_FILTERS, FileFilters
from cvbatch.sources.suffixes import ImageSuffixes
from cvbatch.sources.tables.listing import TABLE_SUFFIXES, ImageTable
from cvbatch.storage.options import StorageOptions

_NOTHING: Final = (
    "it holds no images; skip it with source.exclude, or list the suffixes of its images in source.extensions"
)


class Container(Protocol):
    """An archive, or a table with images."""

    @property
    def holds_images(self) -> bool:
        """Whether it should contain images; a table of labels does not."""

    def extra_schema(self) -> pa.Schema | None:
        """The extra columns that it offers; None if it has no images."""

    def entry_tables(
        self, modified: int | None, extra_columns: pa.Schema, listing: ListingReport
    ) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and the extra columns, under their names in the container.

        Raises:
            BrokenContainerError: After the entries before the damage.
        """


class ContainerOpener:
    """Opens the containers of a source.

    The first container decides the extra columns. In other containers, missing columns and values of another type
    become null.

    Args:
        suffixes: Suffixes of members that are images.
        metadata: Whether to keep other columns of tables and the metadata files in archives.
        image_column: Column of tables that holds the images, if the job names it.
        rename: New names of extra columns, old name to new name.
        extra_columns: Extra columns under their new names, if already decided.
        storage: Options for reading objects.
        filters: Members to skip.
    """

    def __init__(
        self,
        suffixes: ImageSuffixes,
        *,
        metadata: bool = True,
        image_column: str | None = None,
        rename: Mapping[str, str] | None = None,
        extra_columns: pa.Schema | None = None,
        storage: StorageOptions = NO_STORAGE_OPTIONS,
        filters: FileFilters = NO_FILTERS,
    ) -> None:
        self._filters = filters
        self._storage = storage
        self.extra_columns = extra_columns
        self._suffixes = suffixes
        self._metadata = metadata
        self._image_column = image_column
        self._rename = dict(rename or {})

    @staticmethod
    def is_container(name: bytes) -> bool:
        """Whether a file of this name may be a container."""
        return name.lower().endswith((*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES))

    def decide_extra_columns(self, location: bytes | None) -> bool:
        """Let a container decide the extra columns, unless they are already decided.

        Args:
            location: Exact path of the container; None if the source starts with plain images, which have none.

        Returns:
            Whether they are decided; a table without images and an unreadable container decide nothing.

        Raises:
            SourceError: If a name is reserved, or `rename` names a column that does not exist.
        """
        if self.extra_columns is not None:
            return True
        if location is None:
            self.extra_columns = rename_columns(pa.schema([]), self._rename, "the source starts with plain images and")
            return True
        schema = capture_row_error(LIST, lambda: self._open_container(location).extra_schema())
        if schema is None or isinstance(schema, RowError):
            return False
        self.extra_columns = rename_columns(
            portable_schema(schema, readable_path(location)), self._rename, readable_path(location)
        )
        return True

    def entry_tables(self, location: bytes, modified: int | None, listing: ListingReport) -> Iterator[pa.Table]:
        """Yield the images of a container as rows of the plan.

        Args:
            location: Exact path of the container.
            modified: Modification time in nanoseconds.
            listing: Report that receives skipped members, and the container if it cannot be read to its end.

        A container without a single image yields one row for the container itself.
        """
        extra_columns = self.extra_columns if self.extra_columns is not None else pa.schema([])
        old_names = {new: name for name, new in self._rename.items()}
        container_columns = pa.schema(
            [column.with_name(old_names.get(column.name, column.name)) for column in extra_columns]
        )
        names = [*(column.name for column in ENTRY_FIELDS), *extra_columns.names]
        image_count = 0
        container = capture_row_error(LIST, lambda: self._open_container(location))
        if isinstance(container, RowError):
            problem: RowError | None = container
        else:
            tables = container.entry_tables(modified, container_columns, listing)
            while isinstance(table := capture_row_error(LIST, lambda: next(tables, None)), pa.Table):
                image_count += table.num_rows
                if table.num_rows:
                    yield self._filters.filter_chunk(table.rename_columns(names), listing, container=location)
            problem = table  # any error that a library raises over a hostile or damaged file ends the container
            if problem is None and not image_count and container.holds_images:
                problem = RowError(LIST, "NoImages", _NOTHING)
        if problem is None:
            return
        listing.unreadable[readable_path(location)] = problem.message
        if not image_count:
            listing.lost += 1
            yield unlisted_table(location, modified, _published_error(problem, location), extra_columns)

    def _open_container(self, location: bytes) -> Container:
        blob: ByteBlob = open_blob(location, self._storage)
        if not blob.byte_size():
            raise ImageError("EmptyFile", "expected an archive or a table, got a file of 0 bytes")
        if location.lower().endswith(TABLE_SUFFIXES):
            return ImageTable(blob, self._image_column, metadata=self._metadata)
        return Archive(blob, self._suffixes, metadata=self._metadata)


def _published_error(error: RowError, location: bytes) -> RowError:
    """The error with the type that the predictions use."""
    if error.type != BrokenContainerError.__name__:
        return error
    return replace(error, type="DamagedTable" if location.lower().endswith(TABLE_SUFFIXES) else "DamagedArchive")
