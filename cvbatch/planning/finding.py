"""Finding the images of a source again at another place: by their names within it, and by their sizes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import SourceError
from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store
from cvbatch.planning.plan import Plan
from cvbatch.planning.update import cast_to_plan_schema, flag_different_rows, read_planned_rows
from cvbatch.schema import IMAGE_BYTES, IMAGE_URI, MOVED_FROM, ROW_ID, SPAN
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource, exact_paths, readable_path

_MAX_NAMED: Final = 3

_Key = tuple[int, bytes]
"""Number of a source, and the name of an image in it; −1 with a whole path where it is in none of them."""


@dataclass(frozen=True, slots=True)
class SourceMove:
    """Where the sources of a run were and are, one by one."""

    old_uris: tuple[str, ...]
    new_uris: tuple[str, ...]


def find_moved_images(store: Store, plan: Plan, state: RunState, source: ImageSource, move: SourceMove) -> pa.Table:
    """Find every planned image of a source that has moved.

    Args:
        store: The output.
        plan: Of the run.
        state: Of its log.
        source: Opened at the new place.
        move: What has moved.

    Returns:
        Row ids, the newer facts of the images, and in `MOVED_FROM` where they were before.

    Raises:
        SourceError: If one has another name or size there, or is not there.
    """
    planned = read_planned_rows(store, plan, state)
    old, new = _source_prefixes(move.old_uris, move.new_uris, source.positional)
    keys = list(_relative_keys(planned, old))
    tables, seen, wrong = list[pa.Table](), np.zeros(planned.num_rows, np.bool_), _MoveProblems()
    for chunk, rows, unlike in _match_moved_chunks(source, planned, keys, new):
        before = planned.take(pa.array(rows))
        seen[rows] = True
        wrong.compare_rows(before, chunk, unlike, positional=source.positional)
        facts = [column.name for column in ENTRY_FIELDS]
        after = pa.table([*chunk.select(facts).columns, *before.drop_columns(facts).columns], schema=planned.schema)
        after = after.append_column(MOVED_FROM, before[IMAGE_URI])
        tables.append(after.add_column(0, ROW_ID, pa.array(rows)))
    gone = ~seen & ~state.removed.contains_rows(np.arange(planned.num_rows))
    wrong.note_missing(planned.filter(pa.array(gone)))
    if wrong.count:
        more = wrong.count - len(wrong.named)
        raise SourceError(
            f"{', '.join(move.new_uris)} does not hold what was at {', '.join(move.old_uris)}: {'; '.join(wrong.named)}"
            f"{f' and {more} more' * bool(more)}; expected the same images"
        )
    return pa.concat_tables(tables).sort_by(ROW_ID)


class _MoveProblems:
    """What is not as it was planned; some of it by name."""

    def __init__(self) -> None:
        self.count = 0
        self.named: list[str] = []

    def compare_rows(self, before: pa.Table, after: pa.Table, renamed_rows: Sequence[int], *, positional: bool) -> None:
        """Compare planned rows with those that were found for them.

        Args:
            before: Planned.
            after: Found, row by row.
            renamed_rows: Positions of those whose names do not agree.
            positional: Whether they were found by their position.
        """
        for at in renamed_rows:
            self._add_problem(f"{_image_uri_of(after, at)} stands where {_image_uri_of(before, at)} was")
        sizes = before[IMAGE_BYTES], after[IMAGE_BYTES]
        other = pc.fill_null(pc.not_equal(*sizes), False).to_numpy()
        for at in np.flatnonzero(other).tolist():
            was, now = (size[at].as_py() for size in sizes)
            self._add_problem(f"{_image_uri_of(after, at)} has {now:,} bytes, expected {was:,}")
        if not positional:
            return
        on_disk = pc.starts_with(after[IMAGE_URI], "/")
        absent = pc.and_(pc.and_(pc.is_valid(sizes[0]), pc.is_null(sizes[1])), on_disk)
        for at in np.flatnonzero(absent.to_numpy()).tolist():
            self._add_problem(f"{_image_uri_of(after, at)} is not there")
        facts = [column.name for column in ENTRY_FIELDS]
        beside = flag_different_rows(before.drop_columns(facts), after.drop_columns(facts))
        for at in np.flatnonzero(beside).tolist():
            self._add_problem(f"the line of {_image_uri_of(after, at)} has other columns")

    def note_missing(self, rows: pa.Table) -> None:
        """Take note of rows for which nothing was found."""
        self.count += max(0, rows.num_rows - _MAX_NAMED)
        for at in range(min(rows.num_rows, _MAX_NAMED)):
            self._add_problem(f"nothing is there for {_image_uri_of(rows, at)}")

    def _add_problem(self, what: str) -> None:
        self.count += 1
        if len(self.named) < _MAX_NAMED:
            self.named.append(what)


def _image_uri_of(rows: pa.Table, index: int) -> str:
    return str(rows[IMAGE_URI][index].as_py())


def _match_moved_chunks(
    source: ImageSource, planned: pa.Table, keys: Sequence[_Key], bases: Sequence[bytes]
) -> Iterator[tuple[pa.Table, np.ndarray, list[int]]]:
    """Chunks of what is there of the plan, with their row ids, and where names do not agree."""
    index = None if source.positional else pd.Index(pd.array([_encode_key(key) for key in keys], dtype=object))
    position = 0
    renamed: tuple[bytes, bytes] | None = None
    for chunk in source.iter_chunks():
        chunk = cast_to_plan_schema(chunk, planned.schema)
        found = list(_relative_keys(chunk, bases))
        if index is not None:
            rows = index.get_indexer(pd.Index(pd.array([_encode_key(key) for key in found], dtype=object)))
            there = rows >= 0
            yield chunk.filter(pa.array(there)), rows[there].astype(np.int64), []
            continue
        end = min(planned.num_rows, position + chunk.num_rows)
        rows, unlike = np.arange(position, end), list[int]()
        before, after = (exact_paths(table) for table in (planned.slice(position, len(rows)), chunk))
        for at, row in enumerate(rows.tolist()):
            if found[at] == keys[row]:
                continue
            renamed = renamed or _renamed_prefix(before[at], after[at])
            if renamed is None or renamed[1] + before[at].removeprefix(renamed[0]) != after[at]:
                unlike.append(at)
        position = end
        yield chunk.slice(0, len(rows)), rows, unlike


def _renamed_prefix(before: bytes, after: bytes) -> tuple[bytes, bytes] | None:
    """Which beginnings two locations differ in, if they end alike."""
    old, new = before.split(b"/"), after.split(b"/")
    alike = 0
    while old and new and old[-1] == new[-1]:
        old.pop()
        new.pop()
        alike += 1
    return (b"/".join(old), b"/".join(new)) if alike else None


def _encode_key(key: _Key) -> bytes:
    return b"%d\0" % key[0] + key[1]


def _relative_keys(rows: pa.Table, bases: Sequence[bytes]) -> Iterator[_Key]:
    """What each image is called within its source."""
    longest = sorted(enumerate(bases), key=lambda pair: -len(pair[1]))
    paths, uris = exact_paths(rows), rows[IMAGE_URI].to_pylist()
    members, names = rows[SPAN].is_valid().to_pylist(), pc.struct_field(rows[SPAN], "key").to_pylist()
    for path, uri, member, name in zip(paths, uris, members, names, strict=True):
        inside = b"\0" + (os.fsencode(uri[len(readable_path(path)) :]) if name is None else name) if member else b""
        for number, base in longest:
            if path == base or path.startswith(base + b"/"):
                yield number, path[len(base) :] + inside
                break
        else:
            yield -1, path + inside


def _source_prefixes(before: Sequence[str], now: Sequence[str], numbered: bool) -> tuple[list[bytes], list[bytes]]:
    """What the locations of images begin with, for each source."""
    old, new = list[bytes](), list[bytes]()
    for pair in zip(before, now, strict=True):
        pattern = all(map(glob.has_magic, pair)) and not os.path.lexists(pair[1])
        for found, uri in zip((old, new), pair, strict=True):
            if pattern:
                uri = os.path.dirname(uri[: min(uri.find(each) for each in "*?[" if each in uri)])
            elif numbered:
                uri = os.path.dirname(uri)
            found.append(os.fsencode(uri.rstrip("/")))
    return old, new
