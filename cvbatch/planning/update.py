"""A source that has changed since it was planned: what is new, what is different, what is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.job import Job
from cvbatch.errors import RowError, SourceError, capture_row_error
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import read_data_file
from cvbatch.output.log_records import RunState
from cvbatch.output.row_ranges import RowRanges, ranges_of_rows
from cvbatch.output.store import Store
from cvbatch.planning.parts import Part, add_part, read_plan_part, write_part
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.planning.units import slice_by_bytes
from cvbatch.schema import CERTAIN, CONTENT_SHA256, ERROR, IMAGE_URI, ROW_ID, SPAN, STATUS
from cvbatch.sources.entries import CHUNK_ROWS, ENTRY_FIELDS, ImageSource, identity_keys
from cvbatch.sources.fetch.plan_rows import Fetch, plan_fetches
from cvbatch.sources.multiple import MultipleSources
from cvbatch.storage.fetch_options import LOCAL_FETCH, FetchOptions

_HASH_THREADS: Final = 8
_Flags = npt.NDArray[np.bool_]


def update_plan(
    log: CommitLog, plan: Plan, source: ImageSource, limit: int | None = None, reach: FetchOptions = LOCAL_FETCH
) -> None:
    """List the source again, and plan what is new or changed; the log must be open.

    An image is changed when the size or the time of its file is another, and its content, too, or what comes along
    with it. In a manifest, whose rows are known by their position, a row is changed when anything in its line is.

    Args:
        log: Takes the `extend` and `removed` records.
        plan: The plan so far.
        source: Listed again.
        limit: Plan at most so many rows in all.
        reach: How to get at the images, to compare their content.

    Raises:
        SourceError: If a manifest has other columns than it had.
    """
    planned = read_planned_rows(log.store, plan, log.state)
    new, changed = list[pa.Table](), list[pa.Table]()
    facts = [column.name for column in ENTRY_FIELDS]
    seen = np.zeros(planned.num_rows, np.bool_)
    removed = log.state.removed.contains_rows(np.arange(planned.num_rows))
    for chunk, rows in _match_source_chunks(source, planned):
        new.append(chunk.filter(pa.array(rows < 0)))
        chunk, rows = chunk.filter(pa.array(rows >= 0)), rows[rows >= 0]
        seen[rows] = True
        before = planned.take(pa.array(rows))
        beside = flag_different_rows(chunk.drop_columns(facts), before.drop_columns(facts))
        different = beside | flag_different_rows(chunk.select(facts), before.select(facts))
        certain = different if source.positional else beside
        found = chunk.filter(pa.array(different)).append_column(CERTAIN, pa.array(certain[different]))
        changed.append(found.add_column(0, ROW_ID, pa.array(rows[different])))
    _extend_log(log, new, _write_changed_part(log, pa.concat_tables(changed), reach), limit)
    unseen = ~seen & ~_flag_images_below(planned, source.listing.unreadable)
    gone, back = ranges_of_rows(np.flatnonzero(unseen & ~removed)), ranges_of_rows(np.flatnonzero(seen & removed))
    if gone or back:
        log.remove_rows(gone, back)


def check_can_update(job: Job, source: ImageSource, carried: Sequence[pa.Field]) -> None:
    """Refuse a source that cannot be what was planned, before anything is started.

    Args:
        job: Names the source.
        source: Listed up to its first images.
        carried: Columns that came along from a manifest.

    Raises:
        SourceError: If it holds nothing at all, which does not mean that all images are gone, or if a manifest has
            other columns than it had.
    """
    each = source.sources if isinstance(source, MultipleSources) else [source]
    for uri, one in zip(job.source.uris, each, strict=True):
        if next(one.iter_chunks(), None) is None:
            raise SourceError(f"{uri} holds no images any more: expected some; is it mounted?")
    cast_to_plan_schema(next(source.iter_chunks()), pa.schema([*ENTRY_FIELDS, *carried]))


def read_planned_rows(store: Store, plan: Plan, state: RunState) -> pa.Table:
    """What was planned of each row, by the newest facts, in the order of row ids."""
    tables = [read_plan_part(store, part) for part in all_plan_parts(plan, state)]
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    for column in ENTRY_FIELDS:
        if column.name not in table.column_names:  # planned by an earlier version
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    _, newest = np.unique(table[ROW_ID].to_numpy(), return_index=True)  # the first, and newest parts come first
    return table.take(pa.array(newest)).drop_columns([ROW_ID])


def _match_source_chunks(source: ImageSource, planned: pa.Table) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Chunks of the source with the row id of each image, or −1 where it is new."""
    index = None if source.positional else pd.Index(identity_keys(planned))
    position = 0
    for chunk in source.iter_chunks():
        chunk = cast_to_plan_schema(chunk, planned.schema)
        if index is None:
            rows = np.arange(position, position + chunk.num_rows)
            rows[rows >= planned.num_rows] = -1
        else:
            rows = index.get_indexer(pd.Index(identity_keys(chunk)))
        position += chunk.num_rows
        yield chunk, rows.astype(np.int64)


def _flag_images_below(planned: pa.Table, places: Iterable[str]) -> _Flags:
    """Which images lie in folders and containers that could not be listed: nobody knows whether they are gone."""
    inside = np.zeros(planned.num_rows, np.bool_)
    for place in places:
        for separator in "/#":
            inside |= pc.starts_with(planned[IMAGE_URI], pattern=f"{place}{separator}").to_numpy()
    return inside


def cast_to_plan_schema(chunk: pa.Table, schema: pa.Schema) -> pa.Table:
    """A chunk with the columns of the plan.

    Raises:
        SourceError: If it cannot have them.
    """
    try:
        if more := sorted(set(chunk.column_names) - set(schema.names)):
            raise KeyError(f"{more[0]} is new")
        return chunk.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise SourceError(
            f"the manifest has other columns than it was planned with ({str(error.args[0]).splitlines()[0]}); "
            "choose another output"
        ) from None


def flag_different_rows(one: pa.Table, other: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows differ in any column; null is equal to null."""
    different = np.zeros(one.num_rows, np.bool_)
    if SPAN in one.column_names:
        one, other = (_flatten_spans(table) for table in (one, other))
    for name in one.column_names:
        if pa.types.is_nested(one.schema.field(name).type):
            pairs = zip(one[name].to_pylist(), other[name].to_pylist(), strict=True)
            different |= np.fromiter((a != b for a, b in pairs), np.bool_, one.num_rows)
            continue
        both = pc.and_(pc.is_null(one[name]), pc.is_null(other[name]))
        same = pc.or_(pc.fill_null(pc.equal(one[name], other[name]), False), both)
        different |= ~same.to_numpy()
    return different


def _flatten_spans(table: pa.Table) -> pa.Table:
    """The fields of the spans as columns, which compare without a Python object for each."""
    fields = pa.table({SPAN: table[SPAN]}).flatten()
    table = table.drop_columns([SPAN])
    for name in fields.column_names:
        table = table.append_column(name, fields[name])
    return table


def _write_changed_part(log: CommitLog, changed: pa.Table, reach: FetchOptions) -> list[Part]:
    sure, maybe = (changed.filter(flags).drop_columns([CERTAIN]) for flags in (pc.field(CERTAIN), ~pc.field(CERTAIN)))
    changed = pa.concat_tables([sure, maybe.filter(pa.array(_flag_changed_content(log, maybe, reach)))])
    if not changed.num_rows:
        return []
    changed = changed.sort_by(ROW_ID)
    ranges = ranges_of_rows(changed[ROW_ID].to_numpy())
    return [
        {"path": write_part(log.store, changed), "rows": changed.num_rows, "ranges": [list(pair) for pair in ranges]}
    ]


def _flag_changed_content(log: CommitLog, changed: pa.Table, reach: FetchOptions) -> _Flags:
    """Which images have another content than when they were labelled; also those that were errors.

    An error that could be read keeps its row of the plan only if that still says where the image lies.
    """
    before = _labelled_hashes(log, RowRanges(ranges_of_rows(changed[ROW_ID].to_numpy())))
    now = list[str | None]()
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        for piece in slice_by_bytes(changed):
            now += pool.map(_hash_content, plan_fetches(piece, reach))
    rows = zip(changed[ROW_ID].to_pylist(), now, pc.is_valid(changed[SPAN]).to_pylist(), strict=True)
    flags = []
    for row, sha, in_container in rows:
        known, failed = before.get(row, (None, True))
        flags.append(sha is None or sha != known or (failed and in_container))
    return np.array(flags, np.bool_)


def _hash_content(read: Fetch) -> str | None:
    content = capture_row_error("fetch", read)
    return None if isinstance(content, RowError) else hashlib.sha256(content).hexdigest()


def _labelled_hashes(log: CommitLog, rows: RowRanges) -> dict[int, tuple[str | None, bool]]:
    """The hash of each of these rows, and whether it is an error."""
    found: dict[int, tuple[str | None, bool]] = {}
    for file in log.state.files.values():
        if any(rows.overlaps(*pair) for pair in file.ranges):
            table = read_data_file(log.store, file, [ROW_ID, CONTENT_SHA256, STATUS])
            facts = (table[name].to_pylist() for name in (ROW_ID, CONTENT_SHA256, STATUS))
            found |= {row: (sha, status == ERROR) for row, sha, status in zip(*facts, strict=True)}
    return found


def _extend_log(log: CommitLog, new: list[pa.Table], changed: list[Part], limit: int | None) -> None:
    first = log.state.planned
    table = pa.concat_tables(new).combine_chunks() if new else None
    rows = 0 if table is None else table.num_rows
    room = rows if limit is None else max(0, min(rows, limit - first))
    parts = []
    for start in range(0, room, CHUNK_ROWS.current_value):
        assert table is not None, "there are rows"
        part = table.slice(start, min(CHUNK_ROWS.current_value, room - start))
        parts.append(add_part(log.store, part, first + start))
    if parts or changed:
        log.extend_plan(parts, complete=room == rows, changed=changed)
