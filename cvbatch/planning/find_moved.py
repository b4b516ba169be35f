"""Finding the images of a source at a new location, by their relative names and their sizes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.planning.labelled_content import flag_changed_content
from cvbatch.planning.plan import Plan
from cvbatch.planning.update import cast_to_plan_schema, flag_different_rows, read_planned_rows
from cvbatch.schema import IMAGE_BYTES, IMAGE_URI, MOVED_FROM, ROW_ID, SPAN
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource, exact_paths, readable_path
from cvbatch.storage.fetch_options import FetchOptions

_MAX_NAMED: Final = 3

_Key = tuple[int, bytes]
"""Index of a source, and the name of an image in it; −1 and the whole path if the image is in none of the sources."""


@dataclass(frozen=True, slots=True)
class SourceMove:
    """Old and new location of each source of a run."""

    old_uris: tuple[str, ...]
    new_uris: tuple[str, ...]


def find_moved_images(
    log: CommitLog, plan: Plan, source: ImageSource, move: SourceMove, fetch_options: FetchOptions
) -> pa.Table:
    """Find every planned image of a source that has moved.

    Args:
        log: Of the run.
        plan: Plan of the run.
        source: The source, opened at the new location.
        move: Old and new locations.
        fetch_options: Options for fetching images from the new location.

    Returns:
        Row ids, the new entry columns of the images, and their old `image_uri` in `MOVED_FROM`.

    Raises:
        SourceError: If a planned image is missing at the new location, or has a different name or size.
    """
    planned = read_planned_rows(log.store, plan, log.state)
    old_prefixes, new_prefixes = _source_prefixes(move.old_uris, move.new_uris, source.positional)
    keys = list(_relative_keys(planned, old_prefixes))
    tables, seen, problems = list[pa.Table](), np.zeros(planned.num_rows, np.bool_), _MoveProblems()
    entry_columns = [column.name for column in ENTRY_FIELDS]
    for chunk, rows, renamed_rows in _match_moved_chunks(source, planned, keys, new_prefixes):
        before = planned.take(pa.array(rows))
        seen[rows] = True
        columns = [*chunk.select(entry_columns).columns, *before.drop_columns(entry_columns).columns]
        after = pa.table(columns, schema=planned.schema).append_column(MOVED_FROM, before[IMAGE_URI])
        tables.append(after.add_column(0, ROW_ID, pa.array(rows)))
        same = _flag_labelled_content(log, before, tables[-1], fetch_options)
        problems.compare_rows(before, chunk, renamed_rows, same, positional=source.positional)
    missing = ~seen & ~log.state.removed.contains_rows(np.arange(planned.num_rows))
    problems.add_missing_images(planned.filter(pa.array(missing)))
    if problems.count:
        unnamed_count = problems.count - len(problems.messages)
        raise SourceError(
            f"{', '.join(move.new_uris)} does not hold the images of {', '.join(move.old_uris)}: "
            f"{'; '.join(problems.messages)}{f' and {unnamed_count} more' * bool(unnamed_count)}; "
            "expected the same images"
        )
    return pa.concat_tables(tables).sort_by(ROW_ID)


class _MoveProblems:
    """Differences between the planned images and those at the new location; messages for the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.messages: list[str] = []

    def compare_rows(
        self,
        planned_rows: pa.Table,
        moved_rows: pa.Table,
        renamed_rows: Sequence[int],
        labelled_content: npt.NDArray[np.bool_],
        *,
        positional: bool,
    ) -> None:
        """Compare planned rows with the rows that were matched to them.

        Args:
            planned_rows: Planned rows.
            moved_rows: Matched rows, in the same order.
            renamed_rows: Indices of rows whose names differ.
            labelled_content: Flags rows of another size than planned that have the content of their predictions.
            positional: Whether rows were matched by their position.
        """
        for index in renamed_rows:
            self._add_problem(
                f"{_image_uri_of(moved_rows, index)} is in the place of {_image_uri_of(planned_rows, index)}"
            )
        sizes = planned_rows[IMAGE_BYTES], moved_rows[IMAGE_BYTES]
        different_size = _flag_different_size(planned_rows, moved_rows) & ~labelled_content
        for index in np.flatnonzero(different_size).tolist():
            old_size, new_size = (size[index].as_py() for size in sizes)
            self._add_problem(f"{_image_uri_of(moved_rows, index)} has {new_size:,} bytes, expected {old_size:,}")
        if not positional:
            return
        on_disk = pc.starts_with(moved_rows[IMAGE_URI], "/")
        missing = pc.and_(pc.and_(pc.is_valid(sizes[0]), pc.is_null(sizes[1])), on_disk)
        for index in np.flatnonzero(missing.to_numpy()).tolist():
            self._add_problem(f"{_image_uri_of(moved_rows, index)} is missing")
        entry_columns = [column.name for column in ENTRY_FIELDS]
        different = flag_different_rows(
            planned_rows.drop_columns(entry_columns), moved_rows.drop_columns(entry_columns)
        )
        for index in np.flatnonzero(different).tolist():
            self._add_problem(f"the line of {_image_uri_of(moved_rows, index)} has other columns")

    def add_missing_images(self, rows: pa.Table) -> None:
        """Add planned rows without a match."""
        self.count += max(0, rows.num_rows - _MAX_NAMED)
        for index in range(min(rows.num_rows, _MAX_NAMED)):
            self._add_problem(f"there is no match for {_image_uri_of(rows, index)}")

    def _add_problem(self, message: str) -> None:
        self.count += 1
        if len(self.messages) < _MAX_NAMED:
            self.messages.append(message)


def _flag_different_size(planned_rows: pa.Table, moved_rows: pa.Table) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = pc.fill_null(
        pc.not_equal(planned_rows[IMAGE_BYTES], moved_rows[IMAGE_BYTES]), False
    ).to_numpy()
    return flags


def _flag_labelled_content(
    log: CommitLog, planned_rows: pa.Table, moved_rows: pa.Table, fetch_options: FetchOptions
) -> npt.NDArray[np.bool_]:
    """Flag rows of another size than planned whose content was labelled, such as repaired images after a retry."""
    flags = _flag_different_size(planned_rows, moved_rows)
    candidates = moved_rows.filter(pa.array(flags)).combine_chunks()
    if candidates.num_rows:
        flags[flags] = ~flag_changed_content(log, candidates, fetch_options)
    return flags


def _image_uri_of(rows: pa.Table, index: int) -> str:
    return str(rows[IMAGE_URI][index].as_py())


def _match_moved_chunks(
    source: ImageSource, planned: pa.Table, keys: Sequence[_Key], prefixes: Sequence[bytes]
) -> Iterator[tuple[pa.Table, np.ndarray, list[int]]]:
    """Chunks of the source that match planned rows, with their row ids and the indices of rows whose names differ."""
    index = None if source.positional else pd.Index(pd.array([_encode_key(key) for key in keys], dtype=object))
    position = 0
    prefix_change: tuple[bytes, bytes] | None = None
    for chunk in source.iter_chunks():
        chunk = cast_to_plan_schema(chunk, planned.schema)
        chunk_keys = list(_relative_keys(chunk, prefixes))
        if index is not None:
            rows = index.get_indexer(pd.Index(pd.array([_encode_key(key) for key in chunk_keys], dtype=object)))
            is_planned = rows >= 0
            yield chunk.filter(pa.array(is_planned)), rows[is_planned].astype(np.int64), []
            continue
        end = min(planned.num_rows, position + chunk.num_rows)
        rows, renamed_rows = np.arange(position, end), list[int]()
        old_paths, new_paths = (exact_paths(table) for table in (planned.slice(position, len(rows)), chunk))
        for key, row, old_path, new_path in zip(chunk_keys, rows.tolist(), old_paths, new_paths, strict=False):
            if key == keys[row]:
                continue
            prefix_change = prefix_change or _renamed_prefix(old_path, new_path)
            if prefix_change is None or prefix_change[1] + old_path.removeprefix(prefix_change[0]) != new_path:
                renamed_rows.append(row - position)
        position = end
        yield chunk.slice(0, len(rows)), rows, renamed_rows


def _renamed_prefix(old_path: bytes, new_path: bytes) -> tuple[bytes, bytes] | None:
    """The prefixes that differ between two paths with a common suffix; None if there is no common suffix."""
    old, new = old_path.split(b"/"), new_path.split(b"/")
    common_parts = 0
    while old and new and old[-1] == new[-1]:
        old.pop()
        new.pop()
        common_parts += 1
    return (b"/".join(old), b"/".join(new)) if common_parts else None


def _encode_key(key: _Key) -> bytes:
    return b"%d\0" % key[0] + key[1]


def _relative_keys(rows: pa.Table, prefixes: Sequence[bytes]) -> Iterator[_Key]:
    """Name of each image relative to its source; the longest matching prefix decides the source."""
    longest_first = sorted(enumerate(prefixes), key=lambda pair: -len(pair[1]))
    paths, uris = exact_paths(rows), rows[IMAGE_URI].to_pylist()
    are_members, names = rows[SPAN].is_valid().to_pylist(), pc.struct_field(rows[SPAN], "key").to_pylist()
    for path, uri, is_member, name in zip(paths, uris, are_members, names, strict=True):
        member = b""
        if is_member:
            member = b"\0" + (os.fsencode(uri[len(readable_path(path)) :]) if name is None else name)
        for source_index, prefix in longest_first:
            if path == prefix or path.startswith(prefix + b"/"):
                yield source_index, path[len(prefix) :] + member
                break
        else:
            yield -1, path + member


def _source_prefixes(
    old_uris: Sequence[str], new_uris: Sequence[str], positional: bool
) -> tuple[list[bytes], list[bytes]]:
    """Old and new prefix of the image paths of each source."""
    old_prefixes, new_prefixes = list[bytes](), list[bytes]()
    for uris in zip(old_uris, new_uris, strict=True):
        are_globs = all(map(glob.has_magic, uris)) and not os.path.lexists(uris[1])
        for prefixes, uri in zip((old_prefixes, new_prefixes), uris, strict=True):
            if are_globs:
                uri = os.path.dirname(uri[: min(uri.find(magic) for magic in "*?[" if magic in uri)])
            elif positional:
                uri = os.path.dirname(uri)
            prefixes.append(os.fsencode(uri.rstrip("/")))
    return old_prefixes, new_prefixes
