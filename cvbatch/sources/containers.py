"""Files that hold many images: which names they have, and how each becomes rows of the plan."""

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

_NOTHING: Final = "it holds no images; source.exclude leaves it out, source.extensions says what an image is called"


class Container(Protocol):
    """An archive, or a table with images."""

    @property
    def holds_images(self) -> bool:
        """Whether images are to be expected in it; a table of labels has none."""

    def extra_schema(self) -> pa.Schema | None:
        """What it offers besides images; None if it has no images."""

    def entry_tables(self, modified: int | None, carried: pa.Schema, listing: ListingReport) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and the carried columns, under the names that they have in the container.

        Raises:
            BrokenContainerError: After what lies before a damage.
        """


class ContainerOpener:
    """How a source opens the containers that it meets.

    The columns that come along are those of the first container; of the others, a column that is missing is null,
    and so is a value that does not fit.

    Args:
        suffixes: Which members are images.
        metadata: Whether other columns, and what lies beside images, come along.
        image_column: Column of tables with the images, if the job names it.
        rename: New names for the columns that come along, old name to new name.
        extra_columns: The columns, under their new names, where they were decided before.
        storage: How to get to objects.
        filters: Which members are left out.
    """

    def __init__(
        self,
        suffixes: ImageSuffixes,
        *,
        metadata: bool = True,
        image_column: str | None = None,
        rename: Mapping[str, str] | None = None,
        carried: pa.Schema | None = None,
        storage: StorageOptions = NO_STORAGE_OPTIONS,
        filters: FileFilters = NO_FILTERS,
    ) -> None:
        self._filters = filters
        self._storage = storage
        self.extra_columns = carried
        self._suffixes = suffixes
        self._metadata = metadata
        self._image_column = image_column
        self._rename = dict(rename or {})

    @staticmethod
    def is_container(name: bytes) -> bool:
        """Whether a file of this name may be a container."""
        return name.lower().endswith((*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES))

    def decide_extra_columns(self, location: bytes | None) -> bool:
        """Let a container decide which columns come along, unless that was decided before.

        Args:
            location: Its exact path; None if the source begins with plain images, which bring none.

        Returns:
            Whether it did; a table without images does not, nor does what cannot be read.

        Raises:
            SourceError: If a name is one of ours, or `rename` names a column that is not there.
        """
        if self.extra_columns is not None:
            return True
        if location is None:
            self.extra_columns = rename_columns(pa.schema([]), self._rename, "the source begins with plain images and")
            return True
        found = capture_row_error(LIST, lambda: self._open_container(location).extra_schema())
        if found is None or isinstance(found, RowError):
            return False
        self.extra_columns = rename_columns(
            portable_schema(found, readable_path(location)), self._rename, readable_path(location)
        )
        return True

    def entry_tables(self, location: bytes, modified: int | None, listing: ListingReport) -> Iterator[pa.Table]:
        """Yield the images of a container as rows of the plan.

        Args:
            location: Its exact path.
            modified: When it was last changed, in nanoseconds.
            listing: Takes what is left out, and its name if it cannot be read to its end.

        Where there is not a single image, one row stands for the container.
        """
        carried = self.extra_columns if self.extra_columns is not None else pa.schema([])
        old = {new: name for name, new in self._rename.items()}
        inside = pa.schema([column.with_name(old.get(column.name, column.name)) for column in carried])
        names = [*(column.name for column in ENTRY_FIELDS), *carried.names]
        found = 0
        container = capture_row_error(LIST, lambda: self._open_container(location))
        if isinstance(container, RowError):
            problem: RowError | None = container
        else:
            pieces = container.entry_tables(modified, inside, listing)
            while isinstance(piece := capture_row_error(LIST, lambda: next(pieces, None)), pa.Table):
                found += piece.num_rows
                if piece.num_rows:
                    yield self._filters.filter_chunk(piece.rename_columns(names), listing, within=location)
            problem = piece  # whatever a hostile or damaged file makes a library raise is a reason to stop there
            if problem is None and not found and container.holds_images:
                problem = RowError(LIST, "NoImages", _NOTHING)
        if problem is None:
            return
        listing.unreadable[readable_path(location)] = problem.message
        if not found:
            listing.lost += 1
            yield unlisted_table(location, modified, _published_error(problem, location), carried)

    def _open_container(self, location: bytes) -> Container:
        blob: ByteBlob = open_blob(location, self._storage)
        if not blob.byte_size():
            raise ImageError("EmptyFile", "expected an archive or a table, got a file of 0 bytes")
        if location.lower().endswith(TABLE_SUFFIXES):
            return ImageTable(blob, self._image_column, metadata=self._metadata)
        return Archive(blob, self._suffixes, metadata=self._metadata)


def _published_error(error: RowError, location: bytes) -> RowError:
    """An error under the name that it has in the predictions."""
    if error.type != BrokenContainerError.__name__:
        return error
    return replace(error, type="DamagedTable" if location.lower().endswith(TABLE_SUFFIXES) else "DamagedArchive")
