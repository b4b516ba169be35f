"""A source that has changed since it was planned: what is new, what is different, what is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config import Job
from cvbatch.errors import RowError, SourceError, attempt
from cvbatch.planning.plan import Part, Plan, add_part, all_parts, read_part, write_part
from cvbatch.schema import ROW_ID
from cvbatch.sources.entries import CHUNK_ROWS, ENTRY_FIELDS, Source, exact_paths
from cvbatch.sources.fetch import read_local
from cvbatch.writing.files import read_file
from cvbatch.writing.log import Log
from cvbatch.writing.ranges import RowRanges, ranges_of

_THREADS: Final = 8
_Flags = npt.NDArray[np.bool_]


def update(log: Log, plan: Plan, source: Source, limit: int | None = None) -> None:
    """List the source again, and plan what is new or changed; the log must be open.

    A file is changed when its size or its time is another, and its content, too. In a manifest, whose rows are known
    by their position, a row is changed when anything in its line is.

    Args:
        log: Takes the `extend` and `removed` records.
        plan: The plan so far.
        source: Listed again.
        limit: Plan at most so many rows in all.

    Raises:
        SourceError: If a manifest has other columns than it had.
    """
    planned = _planned(log, plan)
    new, changed = list[pa.Table](), list[pa.Table]()
    seen = np.zeros(planned.num_rows, np.bool_)
    removed = log.state.removed.contains(np.arange(planned.num_rows))
    for chunk, rows in _matched(source, planned):
        new.append(chunk.filter(pa.array(rows < 0)))
        chunk, rows = chunk.filter(pa.array(rows >= 0)), rows[rows >= 0]
        seen[rows] = True
        different = _different(chunk, planned.take(pa.array(rows)))
        changed.append(chunk.filter(pa.array(different)).add_column(0, ROW_ID, pa.array(rows[different])))
    _extend(log, new, _changed_parts(log, pa.concat_tables(changed), numbered=source.numbered), limit)
    unseen = ~seen & ~_below(planned, source.listing.unreadable)
    gone, back = ranges_of(np.flatnonzero(unseen & ~removed)), ranges_of(np.flatnonzero(seen & removed))
    if gone or back:
        log.remove(gone, back)


def check_source(job: Job, source: Source, carried: Sequence[pa.Field]) -> None:
    """Refuse a source that cannot be what was planned, before anything is started.

    Args:
        job: Names the source.
        source: Listed up to its first images.
        carried: Columns that came along from a manifest.

    Raises:
        SourceError: If it holds nothing at all, which does not mean that all images are gone, or if a manifest has
            other columns than it had.
    """
    chunk = next(source.chunks(), None)
    if chunk is None:
        raise SourceError(f"{job.source.uri} holds no images any more: expected some; is it mounted?")
    _cast(chunk, pa.schema([*ENTRY_FIELDS, *carried]))


def _planned(log: Log, plan: Plan) -> pa.Table:
    """What was planned of each row, by the newest facts, in the order of row ids."""
    tables = [read_part(log.store, part) for part in all_parts(plan, log.state)]
    table = pa.concat_tables(tables).combine_chunks()
    _, newest = np.unique(table[ROW_ID].to_numpy(), return_index=True)  # the first, and newest parts come first
    return table.take(pa.array(newest)).drop_columns([ROW_ID])


def _matched(source: Source, planned: pa.Table) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Chunks of the source with the row id of each image, or −1 where it is new."""
    index = None if source.numbered else pd.Index(exact_paths(planned))
    position = 0
    for chunk in source.chunks():
        chunk = _cast(chunk, planned.schema)
        if index is None:
            rows = np.arange(position, position + chunk.num_rows)
            rows[rows >= planned.num_rows] = -1
        else:
            rows = index.get_indexer(pd.Index(exact_paths(chunk)))
        position += chunk.num_rows
        yield chunk, rows.astype(np.int64)


def _below(planned: pa.Table, folders: Sequence[str]) -> _Flags:
    """Which images lie below folders that could not be listed: nobody knows whether they are gone."""
    inside = np.zeros(planned.num_rows, np.bool_)
    for folder in folders:
        inside |= pc.starts_with(planned["image_uri"], pattern=f"{folder}/").to_numpy()
    return inside


def _cast(chunk: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        if more := sorted(set(chunk.column_names) - set(schema.names)):
            raise KeyError(f"{more[0]} is new")
        return chunk.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise SourceError(
            f"the manifest has other columns than it was planned with ({str(error.args[0]).splitlines()[0]}); "
            "choose another output"
        ) from None


def _different(one: pa.Table, other: pa.Table) -> _Flags:
    """Which rows differ in any column; null is equal to null."""
    different = np.zeros(one.num_rows, np.bool_)
    for name in one.column_names:
        if pa.types.is_nested(one.schema.field(name).type):
            pairs = zip(one[name].to_pylist(), other[name].to_pylist(), strict=True)
            different |= np.fromiter((a != b for a, b in pairs), np.bool_, one.num_rows)
            continue
        both = pc.and_(pc.is_null(one[name]), pc.is_null(other[name]))
        same = pc.or_(pc.fill_null(pc.equal(one[name], other[name]), False), both)
        different |= ~same.to_numpy()
    return different


def _changed_parts(log: Log, changed: pa.Table, *, numbered: bool) -> list[Part]:
    if not numbered:
        changed = changed.filter(pa.array(_other_content(log, changed)))
    if not changed.num_rows:
        return []
    changed = changed.sort_by(ROW_ID)
    ranges = ranges_of(changed[ROW_ID].to_numpy())
    return [
        {"path": write_part(log.store, changed), "rows": changed.num_rows, "ranges": [list(pair) for pair in ranges]}
    ]


def _other_content(log: Log, changed: pa.Table) -> _Flags:
    """Which files have another content than when they were labelled; also those that were errors."""
    before = _hashes(log, RowRanges(ranges_of(changed[ROW_ID].to_numpy())))
    with ThreadPoolExecutor(_THREADS) as pool:
        now = list(pool.map(_hash, exact_paths(changed)))
    pairs = zip(changed[ROW_ID].to_pylist(), now, strict=True)
    return np.array([sha is None or before.get(row) != sha for row, sha in pairs], np.bool_)


def _hash(path: bytes) -> str | None:
    content = attempt("fetch", lambda: read_local(path))
    return None if isinstance(content, RowError) else hashlib.sha256(content).hexdigest()


def _hashes(log: Log, rows: RowRanges) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for file in log.state.files.values():
        if any(rows.overlaps(*pair) for pair in file.ranges):
            table = read_file(log.store, file, [ROW_ID, "content_sha256"])
            found |= dict(zip(table[ROW_ID].to_pylist(), table["content_sha256"].to_pylist(), strict=True))
    return found


def _extend(log: Log, new: list[pa.Table], changed: list[Part], limit: int | None) -> None:
    first = log.state.planned
    table = pa.concat_tables(new).combine_chunks() if new else None
    rows = 0 if table is None else table.num_rows
    room = rows if limit is None else max(0, min(rows, limit - first))
    parts = []
    for start in range(0, room, CHUNK_ROWS):
        assert table is not None, "there are rows"
        part = table.slice(start, min(CHUNK_ROWS, room - start))
        parts.append(add_part(log.store, part, first + start))
    if parts or changed:
        log.extend(parts, complete=room == rows, changed=changed)
