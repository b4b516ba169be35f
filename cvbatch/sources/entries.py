"""Entries of a source: tables of images, in chunks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import RowError
from cvbatch.schema import ETAG, IMAGE_BYTES, IMAGE_URI, LOCATION, MODIFIED, SPAN
from cvbatch.system.environment import EnvironmentNumber

CHUNK_ROWS: Final = EnvironmentNumber("CVBATCH_CHUNK_ROWS", 65_536, minimum=1)

SPAN_FIELDS: Final = (
    pa.field("how", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("size", pa.int64()),
    pa.field("row", pa.int64()),
    pa.field("check", pa.int64()),
    pa.field("column", pa.string()),
    pa.field("key", pa.binary()),
    pa.field("refused", pa.string()),
)
"""The fields of `Span`."""
ENTRY_FIELDS = (
    pa.field(IMAGE_URI, pa.string(), nullable=False),
    pa.field(IMAGE_BYTES, pa.int64()),
    pa.field(LOCATION, pa.binary()),
    pa.field(MODIFIED, pa.int64()),
    pa.field(ETAG, pa.string()),
    pa.field(SPAN, pa.struct(SPAN_FIELDS)),
)
"""Columns of a chunk: readable URI, size in bytes if known, exact bytes of the path if the URI cannot hold them,
modification time in nanoseconds, version in the object store, and the span of the image in its file (null: the whole
file)."""
INTERNAL: Final = (LOCATION, MODIFIED, ETAG, SPAN)
"""Columns that are only used to read an image and are not in the predictions."""


@dataclass(frozen=True, slots=True)
class Span:
    """Location of the bytes of an image in a container."""

    how: str
    """Key of the reader; see `plan_rows._READERS`."""
    offset: int | None = None
    """Offset of the bytes in a tar (in the unpacked stream if it is compressed), offset of the header in a zip, or
    number of the record batch in an Arrow file."""
    size: int | None = None
    """Number of stored bytes from the offset on."""
    row: int | None = None
    """Row of a table or of the record batch."""
    check: int | None = None
    """CRC-32 of the unpacked bytes of a zip member; size of the file in bytes for ranges of an Arrow file."""
    column: str | None = None
    """Column of a table that holds the images."""
    key: bytes | None = None
    """Identity of the member, if it differs from the end of its URI."""
    refused: str | None = None
    """Reason why it is never read: an `error_type`, with a message for items that could not be listed. Pages have one
    for earlier versions; see `cvbatch.sources.page_spans`."""

    @property
    def byte_range(self) -> tuple[int, int]:
        """Offset and size of a span that is a range of bytes."""
        assert self.offset is not None, "every range has an offset"
        assert self.size is not None, "every range has a size"
        return self.offset, self.size


@dataclass(slots=True)
class ListingReport:
    """Skipped and unreadable items of a listing; grows while chunks are read."""

    skipped: Counter[str] = field(default_factory=Counter)
    """Number of skipped files and members, by suffix or reason."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders and containers that could not be listed completely, with the reason."""
    lost: int = 0
    """Number of these without a single image; each of them is one row."""

    @property
    def unreadable_notes(self) -> list[str]:
        """Readable lines about unreadable items, with the reasons."""
        return [f"{path} ({reason})" for path, reason in self.unreadable.items()]

    def merge_report(self, other_report: ListingReport) -> None:
        """Add the items of another report."""
        self.skipped.update(other_report.skipped)
        self.unreadable.update(other_report.unreadable)
        self.lost += other_report.lost

    def clear_report(self) -> None:
        """Forget all items."""
        self.skipped.clear()
        self.unreadable.clear()
        self.lost = 0


class ImageSource(Protocol):
    """A location with images."""

    extra_columns: pa.Schema
    """Extra columns from a manifest, a table or an archive, under the names in the predictions."""
    positional: bool
    """Whether an image is identified by its position (a manifest) instead of its URI."""

    @property
    def listing(self) -> ListingReport:
        """Report on the listing so far."""

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and `extra_columns`, in an order that is stable between runs."""


ListingMark = Mapping[str, Any]
"""Progress of a listing, as plain data."""


@runtime_checkable
class ResumableSource(ImageSource, Protocol):
    """A source whose listing another process can resume."""

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield chunks, each with a mark to resume after it, or None if it has no mark.

        Args:
            mark: Resume after the chunk that this mark came with.
        """


def readable_path(path: bytes) -> str:
    r"""Path as text; bytes that are not UTF-8 become `\xNN`."""
    return path.decode("utf-8", errors="backslashreplace")


def exact_paths(entries: pa.Table) -> list[bytes]:
    """Exact bytes of each path, used to read the file."""
    pairs = zip(entries[IMAGE_URI].to_pylist(), entries[LOCATION].to_pylist(), strict=True)
    return [os.fsencode(uri) if exact is None else exact for uri, exact in pairs]


def spans_of_entries(entries: pa.Table) -> list[Span | None]:
    """Span of each image in its file; None for whole files, and for all rows in plans of earlier versions."""
    if _are_whole_files(entries):
        return [None] * entries.num_rows
    return [span and Span(**span) for span in entries[SPAN].to_pylist()]


def identity_keys(entries: pa.Table) -> list[bytes]:
    """Identity of each image across listings: its exact path and, in a container, the name of the member.

    No path contains a zero byte, so a member is never mistaken for a file.
    """
    paths = exact_paths(entries)
    if _are_whole_files(entries):
        return paths
    uris, members = entries[IMAGE_URI].to_pylist(), entries[SPAN].is_valid().to_pylist()
    keys = pc.struct_field(entries[SPAN], "key").to_pylist()
    return [
        path + b"\0" + (os.fsencode(uri) if key is None else key) if member else path
        for path, uri, member, key in zip(paths, uris, members, keys, strict=True)
    ]


def entry_table(
    paths: list[bytes],
    sizes: list[int | None],
    modified: list[int | None],
    refused: Sequence[str | None] | None = None,
) -> pa.Table:
    """Build a chunk from absolute paths, sizes in bytes, modification times in nanoseconds and refusal reasons."""
    uris = [readable_path(path) for path in paths]
    exact_bytes = [None if os.fsencode(uri) == path else path for uri, path in zip(uris, paths, strict=True)]
    spans = pa.nulls(len(paths), pa.struct(SPAN_FIELDS))
    if refused is not None and any(refused):
        spans = pa.array([reason and {"how": "", "refused": reason} for reason in refused], pa.struct(SPAN_FIELDS))
    return _to_entry_table(uris, sizes, exact_bytes, modified, pa.nulls(len(paths), pa.string()), spans)


def unlisted_table(location: bytes, modified: int | None, error: RowError, extra_columns: pa.Schema) -> pa.Table:
    """Build the single row of a folder or container in which no image could be listed.

    Args:
        location: Exact path or URI.
        modified: Modification time in nanoseconds.
        error: Error of the row.
        extra_columns: Extra columns, filled with null.
    """
    table = entry_table([location], [None], [modified], [f"{error.type}: {error.message}"])
    for column in extra_columns:
        table = table.append_column(column, pa.nulls(1, column.type))
    return table


def object_table(root: str, objects: pa.Table) -> pa.Table:
    """Build a chunk from objects of a bucket.

    Args:
        root: Prefix of the URIs.
        objects: Columns key, size, etag and last_modified.
    """
    count = objects.num_rows
    uris = pc.binary_join_element_wise(pa.scalar(root), objects["key"], "")
    modified = pc.multiply(objects["last_modified"].cast(pa.timestamp("us")).cast(pa.int64()), 1000)
    null_columns = pa.nulls(count, pa.binary()), pa.nulls(count, pa.struct(SPAN_FIELDS))
    return _to_entry_table(uris, objects["size"], null_columns[0], modified, objects["etag"], null_columns[1])


def member_table(
    container: bytes,
    modified: int | None,
    names: Sequence[str],
    sizes: Sequence[int | None],
    members: Sequence[Span],
) -> pa.Table:
    """Build a chunk from the members of one container.

    Args:
        container: Its exact absolute path.
        modified: Modification time in nanoseconds.
        names: Readable name of each member.
        sizes: Unpacked bytes of each member, if known.
        members: Span of each member.
    """
    container_uri, count = readable_path(container), len(names)
    columns = [pa.array([getattr(span, column.name) for span in members], column.type) for column in SPAN_FIELDS]
    span_column = pa.StructArray.from_arrays(columns, fields=list(SPAN_FIELDS))
    uris = [f"{container_uri}#{name}" for name in names]
    return _to_entry_table(
        uris, sizes, [container] * count, [modified] * count, pa.nulls(count, pa.string()), span_column
    )


def regroup_tables(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Merge small tables and split large ones into chunks of `rows` rows; the last chunk may be smaller."""
    pending_tables, count = list[pa.Table](), 0
    for table in tables:
        pending_tables.append(table)
        count += table.num_rows
        if count >= rows:
            merged = pa.concat_tables(pending_tables)
            full_rows = count - count % rows
            for start in range(0, full_rows, rows):
                yield merged.slice(start, rows).combine_chunks()
            pending_tables, count = [merged.slice(full_rows)], count - full_rows
    if count:
        yield pa.concat_tables(pending_tables).combine_chunks()


def _are_whole_files(entries: pa.Table) -> bool:
    return SPAN not in entries.column_names or entries[SPAN].null_count == entries.num_rows


def _to_entry_table(*columns: Any) -> pa.Table:
    arrays = [
        values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, field.type)
        for values, field in zip(columns, ENTRY_FIELDS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(ENTRY_FIELDS))
