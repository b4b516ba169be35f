"""What a source yields: images in chunks, as columns."""

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

CHUNK_ROWS: Final = EnvironmentNumber("CVBATCH_CHUNK_ROWS", 65_536, least=1)

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
"""Columns of a chunk: the URI as a person reads it, the size if known, the exact bytes of the path where
the URI cannot hold them, when the file was last changed, the version that an object store names, and which part of the
file the image is; null is all of it."""
INTERNAL: Final = (LOCATION, MODIFIED, ETAG, SPAN)
"""Columns that serve to read an image and end there."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where in a container the bytes of an image lie."""

    how: str
    """What reads it: a key of the table in `fetching.py`."""
    offset: int | None = None
    """Of its bytes in a tar (of the unpacked stream, if it is compressed), of its header in a zip, of its record batch
    in an Arrow file."""
    size: int | None = None
    """Bytes as they are stored from there on."""
    row: int | None = None
    """Row of a table, or of the record batch."""
    check: int | None = None
    """CRC-32 of the unpacked bytes, where the container has one."""
    column: str | None = None
    """Column of a table that holds the images."""
    key: bytes | None = None
    """What the member is known by where that is not the end of its URI."""
    refused: str | None = None
    """Why it is never read; an `error_type`, for what could not be listed with its message."""

    @property
    def byte_range(self) -> tuple[int, int]:
        """Offset and size of what is a range of bytes."""
        assert self.offset is not None, "every range has one"
        assert self.size is not None, "every range has one"
        return self.offset, self.size


@dataclass(slots=True)
class ListingReport:
    """What a listing met besides images; grows while its chunks are read."""

    skipped: Counter[str] = field(default_factory=Counter)
    """Files and members left out, by suffix."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders and containers that could not be listed to their end, and why."""
    lost: int = 0
    """Of these, how many gave not a single image; each is a row of its own."""

    @property
    def unreadable_notes(self) -> list[str]:
        """What could not be listed, with the reason, for people."""
        return [f"{path} ({why})" for path, why in self.unreadable.items()]

    def merge_report(self, other: ListingReport) -> None:
        """Take in what another listing met."""
        self.skipped.update(other.skipped)
        self.unreadable.update(other.unreadable)
        self.lost += other.lost

    def clear_report(self) -> None:
        """Begin again."""
        self.skipped.clear()
        self.unreadable.clear()
        self.lost = 0


class ImageSource(Protocol):
    """A place with images."""

    extra_columns: pa.Schema
    """Columns that come along from a manifest, a table or an archive, under their own names."""
    positional: bool
    """Whether an image is known by its position (a manifest) rather than by its URI."""

    @property
    def listing(self) -> ListingReport:
        """What was met so far."""

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and `extra_columns`, in an order that does not change between starts."""


ListingMark = Mapping[str, Any]
"""How far a listing has come, as plain data."""


@runtime_checkable
class ResumableSource(ImageSource, Protocol):
    """A source whose listing can be gone on with by another process."""

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield chunks, each with what a listing can go on from behind it; None where it cannot, or needs not.

        Args:
            mark: Go on behind that chunk.
        """


def readable_path(path: bytes) -> str:
    r"""A path as text; bytes that are not UTF-8 become `\xNN`."""
    return path.decode("utf-8", errors="backslashreplace")


def exact_paths(entries: pa.Table) -> list[bytes]:
    """The exact bytes of each path: what the file is read by."""
    pairs = zip(entries[IMAGE_URI].to_pylist(), entries[LOCATION].to_pylist(), strict=True)
    return [os.fsencode(uri) if exact is None else exact for uri, exact in pairs]


def spans_of_entries(entries: pa.Table) -> list[Span | None]:
    """Which part of its file each image is; plans of earlier versions have whole files only."""
    if _are_whole_files(entries):
        return [None] * entries.num_rows
    return [span and Span(**span) for span in entries[SPAN].to_pylist()]


def identity_keys(entries: pa.Table) -> list[bytes]:
    """What each image is known by from listing to listing: its exact path, and its name within a container.

    No path holds a zero byte, so a member is never taken for a file.
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
    """Build a chunk from absolute paths, sizes in bytes, times in nanoseconds, and why one is never read."""
    uris = [readable_path(path) for path in paths]
    exact = [None if os.fsencode(uri) == path else path for uri, path in zip(uris, paths, strict=True)]
    spans = pa.nulls(len(paths), pa.struct(SPAN_FIELDS))
    if refused is not None and any(refused):
        spans = pa.array([why and {"how": "", "refused": why} for why in refused], pa.struct(SPAN_FIELDS))
    return _to_entry_table(uris, sizes, exact, modified, pa.nulls(len(paths), pa.string()), spans)


def unlisted_table(place: bytes, modified: int | None, error: RowError, carried: pa.Schema) -> pa.Table:
    """Build the one row that stands for a folder or a container of which nothing could be listed.

    Args:
        place: Its exact path or URI.
        modified: When it was last changed, in nanoseconds.
        error: What is wrong with it.
        carried: The columns that come along; null.
    """
    table = entry_table([place], [None], [modified], [f"{error.type}: {error.message}"])
    for column in carried:
        table = table.append_column(column, pa.nulls(1, column.type))
    return table


def object_table(root: str, objects: pa.Table) -> pa.Table:
    """Build a chunk from objects of a bucket.

    Args:
        root: What the URIs begin with.
        objects: Columns key, size, etag and last_modified.
    """
    count = objects.num_rows
    uris = pc.binary_join_element_wise(pa.scalar(root), objects["key"], "")
    modified = pc.multiply(objects["last_modified"].cast(pa.timestamp("us")).cast(pa.int64()), 1000)
    absent = pa.nulls(count, pa.binary()), pa.nulls(count, pa.struct(SPAN_FIELDS))
    return _to_entry_table(uris, objects["size"], absent[0], modified, objects["etag"], absent[1])


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
        modified: When it was last changed, in nanoseconds.
        names: Of each member, as a person reads it.
        sizes: Of each member, unpacked, if known.
        members: Where each of them lies.
    """
    start, count = readable_path(container), len(names)
    columns = [pa.array([getattr(span, column.name) for span in members], column.type) for column in SPAN_FIELDS]
    struct = pa.StructArray.from_arrays(columns, fields=list(SPAN_FIELDS))
    uris = [f"{start}#{name}" for name in names]
    return _to_entry_table(uris, sizes, [container] * count, [modified] * count, pa.nulls(count, pa.string()), struct)


def regroup_tables(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Put small tables together, and cut large ones, into chunks of so many rows; the last one may be smaller."""
    waiting, count = list[pa.Table](), 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= rows:
            whole = pa.concat_tables(waiting)
            full = count - count % rows
            for start in range(0, full, rows):
                yield whole.slice(start, rows).combine_chunks()
            waiting, count = [whole.slice(full)], count - full
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _are_whole_files(entries: pa.Table) -> bool:
    return SPAN not in entries.column_names or entries[SPAN].null_count == entries.num_rows


def _to_entry_table(*columns: Any) -> pa.Table:
    arrays = [
        values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind.type)
        for values, kind in zip(columns, ENTRY_FIELDS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(ENTRY_FIELDS))
