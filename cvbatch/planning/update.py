"""Updating a plan: new, changed and removed images of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.job import Job
from cvbatch.errors import SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.output.store import Store
from cvbatch.planning.labelled_content import flag_changed_content
from cvbatch.planning.parts import Part, add_part, read_plan_part, write_part
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.schema import CERTAIN, IMAGE_URI, ROW_ID, SPAN
from cvbatch.sources.entries import CHUNK_ROWS, ENTRY_FIELDS, ImageSource, identity_keys
from cvbatch.sources.multiple import MultipleSources
from cvbatch.storage.fetch_options import LOCAL_FETCH, FetchOptions

_Flags = npt.NDArray[np.bool_]


def update_plan(
    log: CommitLog, plan: Plan, source: ImageSource, limit: int | None = None, fetch_options: FetchOptions = LOCAL_FETCH
) -> None:
    """List the source again and plan new and changed images; the log must be open.

    An image has changed if both the size or time of its file and its content differ, or if its extra columns differ.
    In a manifest, where rows are matched by position, a row has changed if anything in its line has.

    Args:
        log: Receives the `extend` and `removed` records.
        plan: The original plan.
        source: The source to list again.
        limit: Most rows in the whole plan.
        fetch_options: Options for fetching images, to compare their content.

    Raises:
        SourceError: If the columns of a manifest have changed.
    """
    planned = read_planned_rows(log.store, plan, log.state)
    new, changed = list[pa.Table](), list[pa.Table]()
    entry_columns = [column.name for column in ENTRY_FIELDS]
    seen = np.zeros(planned.num_rows, np.bool_)
    removed = log.state.removed.contains_rows(np.arange(planned.num_rows))
    for chunk, rows in _match_source_chunks(source, planned):
        new.append(chunk.filter(pa.array(rows < 0)))
        chunk, rows = chunk.filter(pa.array(rows >= 0)), rows[rows >= 0]
        seen[rows] = True
        before = planned.take(pa.array(rows))
        extras_differ = flag_different_rows(chunk.drop_columns(entry_columns), before.drop_columns(entry_columns))
        different = extras_differ | flag_different_rows(chunk.select(entry_columns), before.select(entry_columns))
        certain = different if source.positional else extras_differ
        candidates = chunk.filter(pa.array(different)).append_column(CERTAIN, pa.array(certain[different]))
        changed.append(candidates.add_column(0, ROW_ID, pa.array(rows[different])))
    changed_rows, relocated_rows = _separate_changed_rows(log, pa.concat_tables(changed), fetch_options)
    _extend_log(log, new, _write_newer_parts(log, changed_rows), limit)
    for part in _write_newer_parts(log, relocated_rows):
        log.record_move(part)
    unseen = ~seen & ~_flag_images_below(planned, source.listing.unreadable)
    gone, back = ranges_of_rows(np.flatnonzero(unseen & ~removed)), ranges_of_rows(np.flatnonzero(seen & removed))
    if gone or back:
        log.remove_rows(gone, back)


def check_can_update(job: Job, source: ImageSource, extra_columns: Sequence[pa.Field]) -> None:
    """Check, before anything is started, that a source can be the one that was planned.

    Args:
        job: Names the source.
        source: The source; its first images are listed.
        extra_columns: Extra columns of the plan.

    Raises:
        SourceError: If a source is empty, which does not mean that all images were removed, or if the columns of a
            manifest have changed.
    """
    sources = source.sources if isinstance(source, MultipleSources) else [source]
    for uri, single_source in zip(job.source.uris, sources, strict=True):
        if next(single_source.iter_chunks(), None) is None:
            raise SourceError(f"{uri} holds no images any more: expected some; is it mounted?")
    cast_to_plan_schema(next(source.iter_chunks()), pa.schema([*ENTRY_FIELDS, *extra_columns]))


def read_planned_rows(store: Store, plan: Plan, state: RunState) -> pa.Table:
    """The newest planned values of all rows, sorted by row id, without the row ids."""
    tables = [read_plan_part(store, part) for part in all_plan_parts(plan, state)]
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    for column in ENTRY_FIELDS:
        if column.name not in table.column_names:  # planned by an earlier version
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    _, newest = np.unique(table[ROW_ID].to_numpy(), return_index=True)  # the first occurrence; newest parts come first
    return table.take(pa.array(newest)).drop_columns([ROW_ID])


def _match_source_chunks(source: ImageSource, planned: pa.Table) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Chunks of the source with the row id of each image; −1 for new images."""
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


def _flag_images_below(planned: pa.Table, locations: Iterable[str]) -> _Flags:
    """Flag images in folders and containers that could not be listed: they may still exist."""
    inside = np.zeros(planned.num_rows, np.bool_)
    for location in locations:
        for separator in "/#":
            inside |= pc.starts_with(planned[IMAGE_URI], pattern=f"{location}{separator}").to_numpy()
    return inside


def cast_to_plan_schema(chunk: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a chunk to the columns of the plan.

    Raises:
        SourceError: If columns differ or cannot be cast.
    """
    try:
        if new_columns := sorted(set(chunk.column_names) - set(schema.names)):
            raise KeyError(f"{new_columns[0]} is new")
        return chunk.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise SourceError(
            f"the columns of the manifest have changed since it was planned ({str(error.args[0]).splitlines()[0]}); "
            "choose another output"
        ) from None


def flag_different_rows(old_rows: pa.Table, new_rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Flag rows that differ in any column; null equals null."""
    different = np.zeros(old_rows.num_rows, np.bool_)
    if SPAN in old_rows.column_names:
        old_rows, new_rows = (_flatten_spans(table) for table in (old_rows, new_rows))
    for name in old_rows.column_names:
        if pa.types.is_nested(old_rows.schema.field(name).type):
            pairs = zip(old_rows[name].to_pylist(), new_rows[name].to_pylist(), strict=True)
            different |= np.fromiter((old != new for old, new in pairs), np.bool_, old_rows.num_rows)
            continue
        both_null = pc.and_(pc.is_null(old_rows[name]), pc.is_null(new_rows[name]))
        same = pc.or_(pc.fill_null(pc.equal(old_rows[name], new_rows[name]), False), both_null)
        different |= ~same.to_numpy()
    return different


def _flatten_spans(table: pa.Table) -> pa.Table:
    """Replace the spans by one column per field, which Arrow compares without Python objects."""
    fields = pa.table({SPAN: table[SPAN]}).flatten()
    table = table.drop_columns([SPAN])
    for name in fields.column_names:
        table = table.append_column(name, fields[name])
    return table


def _separate_changed_rows(
    log: CommitLog, candidates: pa.Table, fetch_options: FetchOptions
) -> tuple[pa.Table, pa.Table]:
    """Rows to compute again, and rows with the same content whose place in a container may be another one.

    The latter are not computed again, but edits, exports and new models read their images once more.
    """
    certain, uncertain = (
        candidates.filter(flags).drop_columns([CERTAIN]) for flags in (pc.field(CERTAIN), ~pc.field(CERTAIN))
    )
    has_changed = pa.array(flag_changed_content(log, uncertain, fetch_options))
    same = uncertain.filter(pc.invert(has_changed))
    return pa.concat_tables([certain, uncertain.filter(has_changed)]), same.filter(pc.is_valid(same[SPAN]))


def _write_newer_parts(log: CommitLog, rows: pa.Table) -> list[Part]:
    """Write one plan part with newer facts about planned rows; no part without rows."""
    if not rows.num_rows:
        return []
    rows = rows.sort_by(ROW_ID)
    ranges = [list(row_range) for row_range in ranges_of_rows(rows[ROW_ID].to_numpy())]
    return [{"path": write_part(log.store, rows), "rows": rows.num_rows, "ranges": ranges}]


def _extend_log(log: CommitLog, new: list[pa.Table], changed: list[Part], limit: int | None) -> None:
    first_row_id = log.state.planned
    table = pa.concat_tables(new).combine_chunks() if new else None
    new_count = 0 if table is None else table.num_rows
    row_count = new_count if limit is None else max(0, min(new_count, limit - first_row_id))
    parts = []
    for start in range(0, row_count, CHUNK_ROWS.current_value):
        assert table is not None, "row_count > 0"
        part = table.slice(start, min(CHUNK_ROWS.current_value, row_count - start))
        parts.append(add_part(log.store, part, first_row_id + start))
    if parts or changed:
        log.extend_plan(parts, complete=row_count == new_count, changed=changed)
