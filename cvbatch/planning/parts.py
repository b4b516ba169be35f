"""Plan parts: Parquet files with unique names."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import Store
from cvbatch.schema import IMAGE_URI, LOCATION, MOVED_FROM, ROW_ID, SPAN
from cvbatch.sources.entries import ImageSource, ListingMark, identity_keys
from cvbatch.system.formats import RecordFormat

PARTS_FOLDER: Final = "_cvbatch/plan"
_PART_SUFFIX: Final = ".plan"
"""Not `.parquet`, because readers that scan all folders would take the parts for predictions; earlier versions used
`.parquet`."""
_ROW_GROUP = 4096
_FORMAT: Final = RecordFormat("part of the plan", dict[str, Any])
_METADATA_KEY: Final = b"cvbatch"
"""Key of the format in the metadata of the file."""

Part = Mapping[str, Any]
"""`{path, first_row_id, rows}` of a part with new rows, or `{path, ranges}` of a part with newer values of rows that
were planned before."""


def write_new_parts(
    store: Store,
    source: ImageSource,
    *,
    first_row_id: int,
    limit: int | None,
    known_keys: frozenset[bytes] = frozenset(),
) -> tuple[list[Part], bool]:
    """List new images of a source and write them as plan parts.

    Args:
        store: The output.
        source: The source to list.
        first_row_id: Row id of the first new image.
        limit: Most rows in the whole plan.
        known_keys: Identity keys of the images that are already planned.

    Returns:
        The parts, and whether the listing reached the end of the source.
    """
    new_chunks = ((chunk, None) for chunk in _new_chunks(source, first_row_id, known_keys))
    return write_chunks_as_parts(store, new_chunks, limit, first_row_id=first_row_id)


def write_chunks_as_parts(
    store: Store,
    chunks: Iterable[tuple[pa.Table, ListingMark | None]],
    limit: int | None,
    earlier_parts: Sequence[Part] = (),
    save: Callable[[Sequence[Part], ListingMark], None] | None = None,
    *,
    first_row_id: int = 0,
) -> tuple[list[Part], bool]:
    """Write chunks of a source as plan parts.

    Args:
        store: The output.
        chunks: Chunks with their marks; see `ResumableSource`.
        limit: Most rows in the whole plan.
        earlier_parts: Parts that are already written.
        save: Called with all parts so far and the mark after them, if the chunk has a mark.
        first_row_id: Row id of the first image of `earlier_parts`, or of the first chunk if `earlier_parts` is empty.

    Returns:
        `earlier_parts` and the new parts, and whether all chunks were written.
    """
    parts, row_id = list(earlier_parts), first_row_id + sum(part["rows"] for part in earlier_parts)
    for chunk, mark in chunks:
        row_count = chunk.num_rows if limit is None else min(chunk.num_rows, limit - row_id)
        if row_count:
            parts.append(add_part(store, chunk.slice(0, row_count), row_id))
            row_id += row_count
        if row_count < chunk.num_rows:
            return parts, False
        if mark is not None and save is not None:
            save(parts, mark)
    return parts, True


def add_part(store: Store, images: pa.Table, first_row_id: int) -> dict[str, Any]:
    """Write new images as a part whose row ids start at `first_row_id`."""
    row_ids = pa.array(range(first_row_id, first_row_id + images.num_rows), pa.int64())
    path = write_part(store, images.add_column(0, ROW_ID, row_ids))
    return {"path": path, "first_row_id": first_row_id, "rows": images.num_rows}


def write_part(store: Store, table: pa.Table) -> str:
    """Write rows of the plan, sorted by row id; returns the unique path of the part."""
    path = f"{PARTS_FOLDER}/{uuid.uuid4().hex}{_PART_SUFFIX}"
    store.add_file(path, partial(_write_part_file, table))
    return path


def part_paths(store: Store) -> frozenset[str]:
    """Paths of all plan parts in the output, whether or not the plan or the log names them."""
    return frozenset(store.list_sizes(PARTS_FOLDER))


def delete_orphan_parts(store: Store, existing_paths: frozenset[str], named_parts: Iterable[Part]) -> None:
    """Delete parts that an attempt wrote and no record names, because it died or lost to another attempt.

    Args:
        store: The output.
        existing_paths: `part_paths` from before the log was opened. Their writers can no longer name them, while a
            later part may belong to an attempt that has opened the log since.
        named_parts: All parts of the plan and of the log after it was opened.
    """
    for path in existing_paths - {part["path"] for part in named_parts}:
        store.delete_object(path)


def planned_identity_keys(store: Store, parts: Sequence[Part]) -> frozenset[bytes]:
    """Identity keys of all planned images."""
    columns = [IMAGE_URI, LOCATION, SPAN]
    return frozenset(key for part in parts for key in identity_keys(read_plan_part(store, part, columns)))


def part_row_ranges(part: Part) -> list[RowRange]:
    """Row ranges of a part, in order."""
    if "ranges" in part:
        return [(low, high) for low, high in part["ranges"]]
    return [(part["first_row_id"], part["first_row_id"] + part["rows"])]


def read_plan_part(store: Store, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one plan part; columns that an earlier version did not write are left out."""
    with store.open_object(part["path"]) as file:
        table = open_part(file, f"{store.root}/{part['path']}").read(columns=columns)
    return without_move_column(table) if columns is None else _without_format(table)


def iter_part_rows(store: Store, part: Part, row_ids: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Read some rows of one plan part; only one row group is in memory.

    Args:
        store: The output.
        part: The part.
        row_ids: int64 (n,), in order, without repetition; all of them are in the part.

    Yields:
        Tables of at least one row, in order.
    """
    if not len(row_ids):
        return
    with store.open_object(part["path"]) as file:
        parquet_file = open_part(file, f"{store.root}/{part['path']}")
        lows, highs = row_group_bounds(parquet_file)
        starts, stops = np.searchsorted(row_ids, lows), np.searchsorted(row_ids, highs, side="right")
        for group in np.flatnonzero(starts < stops).tolist():
            rows = without_move_column(parquet_file.read_row_group(group))
            wanted = row_ids[starts[group] : stops[group]]
            yield rows.take(pa.array(np.searchsorted(rows[ROW_ID].to_numpy(), wanted)))


def row_group_bounds(file: pq.ParquetFile) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The lowest and the highest row id of each row group of a plan part, int64 (groups,)."""
    column = file.schema_arrow.names.index(ROW_ID)
    statistics = [file.metadata.row_group(group).column(column).statistics for group in range(file.num_row_groups)]
    return (
        np.array([group.min for group in statistics], np.int64),
        np.array([group.max for group in statistics], np.int64),
    )


def open_part(file: pa.NativeFile, path: str) -> pq.ParquetFile:
    """Open a plan part; `path` is for messages.

    Raises:
        OutputError: If a newer version wrote the part in a format that this version cannot read.
    """
    parquet_file = pq.ParquetFile(file)
    _FORMAT.decode_record((parquet_file.schema_arrow.metadata or {}).get(_METADATA_KEY, b"{}"), path)
    return parquet_file


def without_move_column(table: pa.Table) -> pa.Table:
    """Rows of a part without the column that only parts about a move have."""
    table = _without_format(table)
    return table.drop_columns([MOVED_FROM]) if MOVED_FROM in table.column_names else table


def _without_format(table: pa.Table) -> pa.Table:
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != _METADATA_KEY}
    return table.replace_schema_metadata(metadata or None)


def _new_chunks(source: ImageSource, first_row_id: int, known_keys: frozenset[bytes]) -> Iterator[pa.Table]:
    position = 0
    for chunk in source.iter_chunks():
        chunk_start, position = position, position + chunk.num_rows
        if source.positional:
            yield chunk.slice(max(0, first_row_id - chunk_start))
        elif known_keys:
            yield chunk.filter(pa.array([key not in known_keys for key in identity_keys(chunk)]))
        else:
            yield chunk


def _write_part_file(table: pa.Table, local_path: str) -> None:
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA_KEY: _FORMAT.encode_record({})})
    pq.write_table(table, local_path, compression="zstd", row_group_size=_ROW_GROUP)
