"""Files that hold many images: which names they have, and how each becomes rows of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol

import pyarrow as pa

from cvbatch.errors import LIST, ImageError, RowError, attempt
from cvbatch.sources.archives.listing import ARCHIVE_SUFFIXES, Archive
from cvbatch.sources.entries import ENTRY_FIELDS, Listing, readable, unlisted_table
from cvbatch.sources.extra_columns import new_names, portable_schema
from cvbatch.sources.fetch.blob import NEARBY, Blob, BrokenContainerError, open_blob
from cvbatch.sources.filters import NO_FILTERS, Filters
from cvbatch.sources.suffixes import Suffixes
from cvbatch.sources.tables.listing import TABLE_SUFFIXES, ImageTable
from cvbatch.storage.options import StorageOptions

_NOTHING: Final = "it holds no images; source.exclude leaves it out, source.extensions says what an image is called"


class Container(Protocol):
    """An archive, or a table with images."""

    @property
    def holds_images(self) -> bool:
        """Whether images are to be expected in it; a table of labels has none."""

    def columns(self) -> pa.Schema | None:
        """What it offers besides images; None if it has no images."""

    def pieces(self, modified: int | None, carried: pa.Schema, listing: Listing) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and the carried columns, under the names that they have in the container.

        Raises:
            BrokenContainerError: After what lies before a damage.
        """


class Containers:
    """How a source opens the containers that it meets.

    The columns that come along are those of the first container; of the others, a column that is missing is null,
    and so is a value that does not fit.

    Args:
        suffixes: Which members are images.
        metadata: Whether other columns, and what lies beside images, come along.
        image_column: Column of tables with the images, if the job names it.
        rename: New names for the columns that come along, old name to new name.
        carried: The columns, under their new names, where they were decided before.
        storage: How to get to objects.
        filters: Which members are left out.
    """

    def __init__(
        self,
        suffixes: Suffixes,
        *,
        metadata: bool = True,
        image_column: str | None = None,
        rename: Mapping[str, str] | None = None,
        carried: pa.Schema | None = None,
        storage: StorageOptions = NEARBY,
        filters: Filters = NO_FILTERS,
    ) -> None:
        self._filters = filters
        self._storage = storage
        self.carried = carried
        self._suffixes = suffixes
        self._metadata = metadata
        self._image_column = image_column
        self._rename = dict(rename or {})

    @staticmethod
    def holds(name: bytes) -> bool:
        """Whether a file of this name may be a container."""
        return name.lower().endswith((*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES))

    def decide(self, location: bytes | None) -> bool:
        """Let a container decide which columns come along, unless that was decided before.

        Args:
            location: Its exact path; None if the source begins with plain images, which bring none.

        Returns:
            Whether it did; a table without images does not, nor does what cannot be read.

        Raises:
            SourceError: If a name is one of ours, or `rename` names a column that is not there.
        """
        if self.carried is not None:
            return True
        if location is None:
            self.carried = new_names(pa.schema([]), self._rename, "the source begins with plain images and")
            return True
        found = attempt(LIST, lambda: self._open(location).columns())
        if found is None or isinstance(found, RowError):
            return False
        self.carried = new_names(portable_schema(found, readable(location)), self._rename, readable(location))
        return True

    def pieces(self, location: bytes, modified: int | None, listing: Listing) -> Iterator[pa.Table]:
        """Yield the images of a container as rows of the plan.

        Args:
            location: Its exact path.
            modified: When it was last changed, in nanoseconds.
            listing: Takes what is left out, and its name if it cannot be read to its end.

        Where there is not a single image, one row stands for the container.
        """
        carried = self.carried if self.carried is not None else pa.schema([])
        old = {new: name for name, new in self._rename.items()}
        inside = pa.schema([column.with_name(old.get(column.name, column.name)) for column in carried])
        names = [*(column.name for column in ENTRY_FIELDS), *carried.names]
        found = 0
        container = attempt(LIST, lambda: self._open(location))
        if isinstance(container, RowError):
            problem: RowError | None = container
        else:
            pieces = container.pieces(modified, inside, listing)
            while isinstance(piece := attempt(LIST, lambda: next(pieces, None)), pa.Table):
                found += piece.num_rows
                if piece.num_rows:
                    yield self._filters.kept(piece.rename_columns(names), listing, within=location)
            problem = piece  # whatever a hostile or damaged file makes a library raise is a reason to stop there
            if problem is None and not found and container.holds_images:
                problem = RowError(LIST, "NoImages", _NOTHING)
        if problem is None:
            return
        listing.unreadable[readable(location)] = problem.message
        if not found:
            listing.lost += 1
            yield unlisted_table(location, modified, _named(problem, location), carried)

    def _open(self, location: bytes) -> Container:
        blob: Blob = open_blob(location, self._storage)
        if not blob.size():
            raise ImageError("EmptyFile", "expected an archive or a table, got a file of 0 bytes")
        if location.lower().endswith(TABLE_SUFFIXES):
            return ImageTable(blob, self._image_column, metadata=self._metadata)
        return Archive(blob, self._suffixes, metadata=self._metadata)


def _named(error: RowError, location: bytes) -> RowError:
    """An error under the name that it has in the predictions."""
    if error.type != BrokenContainerError.__name__:
        return error
    return replace(error, type="DamagedTable" if location.lower().endswith(TABLE_SUFFIXES) else "DamagedArchive")
