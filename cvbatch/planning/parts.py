"""Parts of the plan: Parquet files under names that nobody else has."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import Store
from cvbatch.schema import IMAGE_URI, LOCATION, MOVED_FROM, ROW_ID, SPAN
from cvbatch.sources.entries import ImageSource, ListingMark, identity_keys
from cvbatch.system.formats import RecordFormat

PARTS_FOLDER: Final = "_cvbatch/plan"
_PART_SUFFIX: Final = ".plan"
"""Not `.parquet`, which readers that go through all folders would take for predictions; earlier versions wrote that."""
_ROW_GROUP = 4096
_FORMAT: Final = RecordFormat("part of the plan", dict[str, Any])
_ABOUT: Final = b"cvbatch"
"""Key in the metadata of the file with the format."""

Part = Mapping[str, Any]
"""`{path, first_row_id, rows}` of one Parquet file of the plan, or `{path, ranges}` of one with newer facts of rows
that were planned before."""


def write_new_parts(
    store: Store,
    source: ImageSource,
    *,
    first_row_id: int,
    limit: int | None,
    known: frozenset[bytes] = frozenset(),
) -> tuple[list[Part], bool]:
    """List what is new of a source into plan parts.

    Args:
        store: The output.
        source: What to list.
        first_row_id: Row id of the first new image.
        limit: End when so many rows are planned in all.
        known: What the images that are planned already are known by.

    Returns:
        The parts, and whether the listing came to its end.
    """
    new = ((chunk, None) for chunk in _new_chunks(source, first_row_id, known))
    return write_chunks_as_parts(store, new, limit, first_row_id=first_row_id)


def write_chunks_as_parts(
    store: Store,
    chunks: Iterable[tuple[pa.Table, ListingMark | None]],
    limit: int | None,
    before: Sequence[Part] = (),
    save: Callable[[Sequence[Part], ListingMark], None] | None = None,
    *,
    first_row_id: int = 0,
) -> tuple[list[Part], bool]:
    """Write chunks of a source as parts.

    Args:
        store: The output.
        chunks: With their marks; see `Resumable`.
        limit: End when so many rows are planned in all.
        before: Parts that are there already.
        save: Told of all parts so far and of the mark behind them, where there is one.
        first_row_id: Row id of the first image, or that of `before`.

    Returns:
        `before` and the new parts, and whether the chunks came to their end.
    """
    parts, row_id = list(before), first_row_id + sum(part["rows"] for part in before)
    for chunk, mark in chunks:
        room = chunk.num_rows if limit is None else min(chunk.num_rows, limit - row_id)
        if room:
            parts.append(add_part(store, chunk.slice(0, room), row_id))
            row_id += room
        if room < chunk.num_rows:
            return parts, False
        if mark is not None and save is not None:
            save(parts, mark)
    return parts, True


def add_part(store: Store, images: pa.Table, first_row_id: int) -> dict[str, Any]:
    """Write new images as a part whose row ids begin with `first_row_id`."""
    row_ids = pa.array(range(first_row_id, first_row_id + images.num_rows), pa.int64())
    path = write_part(store, images.add_column(0, ROW_ID, row_ids))
    return {"path": path, "first_row_id": first_row_id, "rows": images.num_rows}


def write_part(store: Store, table: pa.Table) -> str:
    """Write rows of the plan, in the order of their row ids; returns the name, which nobody else has."""
    path = f"{PARTS_FOLDER}/{uuid.uuid4().hex}{_PART_SUFFIX}"
    store.add_file(path, partial(_write_part_file, table))
    return path


def part_paths(store: Store) -> frozenset[str]:
    """Paths of all plan parts that an output holds, whether or not a plan or a log record names them."""
    return frozenset(store.list_sizes(PARTS_FOLDER))


def delete_orphan_parts(store: Store, written_before: frozenset[str], named: Iterable[Part]) -> None:
    """Delete parts that a start wrote and never named, because it died or lost to another start.

    Args:
        store: The output.
        written_before: `part_paths` from before the log was opened. Whoever wrote those can no longer name them, while
            a later part may belong to a start that has opened the log since.
        named: All parts of the plan and of the log as it was opened.
    """
    for path in written_before - {part["path"] for part in named}:
        store.delete_object(path)


def planned_identity_keys(store: Store, parts: Sequence[Part]) -> frozenset[bytes]:
    """What every planned image is known by."""
    columns = [IMAGE_URI, LOCATION, SPAN]
    return frozenset(key for part in parts for key in identity_keys(read_plan_part(store, part, columns)))


def part_row_ranges(part: Part) -> list[RowRange]:
    """The row ids of a part, in order."""
    if "ranges" in part:
        return [(low, high) for low, high in part["ranges"]]
    return [(part["first_row_id"], part["first_row_id"] + part["rows"])]


def read_plan_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part of the plan; columns that an earlier version did not write are left out."""
    with store.open_object(part["path"]) as file:
        table = open_part(file, f"{store.root}/{part['path']}").read(columns=columns)
    return without_move_column(table) if columns is None else _without_format(table)


def open_part(file: pa.NativeFile, where: str) -> pq.ParquetFile:
    """Open a part of the plan; `where` is for messages.

    Raises:
        OutputError: If a newer version wrote it, in a format that this one does not read.
    """
    opened = pq.ParquetFile(file)
    _FORMAT.decode_record((opened.schema_arrow.metadata or {}).get(_ABOUT, b"{}"), where)
    return opened


def without_move_column(table: pa.Table) -> pa.Table:
    """Rows of a part with what every part has."""
    table = _without_format(table)
    return table.drop_columns([MOVED_FROM]) if MOVED_FROM in table.column_names else table


def _without_format(table: pa.Table) -> pa.Table:
    others = {key: value for key, value in (table.schema.metadata or {}).items() if key != _ABOUT}
    return table.replace_schema_metadata(others or None)


def _new_chunks(source: ImageSource, first_row_id: int, known: frozenset[bytes]) -> Iterator[pa.Table]:
    position = 0
    for chunk in source.iter_chunks():
        seen, position = position, position + chunk.num_rows
        if source.positional:
            yield chunk.slice(max(0, first_row_id - seen))
        elif known:
            yield chunk.filter(pa.array([key not in known for key in identity_keys(chunk)]))
        else:
            yield chunk


def _write_part_file(table: pa.Table, local: str) -> None:
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _ABOUT: _FORMAT.encode_record({})})
    pq.write_table(table, local, compression="zstd", row_group_size=_ROW_GROUP)
