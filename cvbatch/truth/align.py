"""Finds the row of each image of the truth: by location, by path, by file name, or by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.schema import CONTENT_SHA256, HEIGHT, IMAGE_URI, OK, ROW_ID, SOURCE_REMOVED, STATUS, WIDTH
from cvbatch.truth.alignment import NO_ROW, Alignment
from cvbatch.truth.base import Ints, Truth
from cvbatch.truth.image_names import are_hashes, count_parts, last_parts, normalize_paths

_BATCH_ROWS: Final = 131_072


def align_truth(opened: OpenedOutput, truth: Truth, where: Where = None) -> Alignment:
    """Find the row of each image of the truth.

    Names that are sha256 sums are compared with `content_sha256`. Others are paths: as many of their last parts are
    compared with those of `image_uri` as are needed for any to agree, so that truth may have been written on another
    machine, with `photos/0001.jpg` or only `0001.jpg`.

    Args:
        opened: The run.
        truth: Has the names.
        where: Condition on rows.

    Raises:
        UsageError: If no name fits, or one fits several different images.
    """
    by_content = are_hashes(truth.image_names)
    scan = _scan_rows(opened, truth, by_content)
    if by_content:
        keys = pa.array([name.lower() for name in truth.image_names])
        matches, matched_by = _match(keys, scan.candidates[CONTENT_SHA256]), CONTENT_SHA256
    else:
        matches, matched_by = _match_paths(truth, scan.candidates)
    if not (matches >= 0).any():
        raise UsageError(
            f"{truth.source}: expected images of {opened.store.root}, such as {scan.example}; "
            f"got {truth.image_names[0]}, and no name fits any row; give the truth of this archive"
        )
    return _count(opened, truth, where, scan, matches, matched_by)


@dataclass(frozen=True)
class _Scan:
    """What one pass over the rows has found."""

    candidates: pa.Table
    """Rows whose file name, or content, the truth names."""
    rows: int
    removed: int
    example: str
    """Location of a row."""
    other_example: str | None
    """Location of a row that the truth does not name."""


def _scan_rows(opened: OpenedOutput, truth: Truth, by_content: bool) -> _Scan:
    wanted = pa.array(truth.image_names, pa.string())
    wanted = pc.utf8_lower(wanted) if by_content else last_parts(_paths(wanted, truth), 1)
    tables, rows, removed, example, other = [], 0, 0, None, None
    columns = [ROW_ID, IMAGE_URI, CONTENT_SHA256, STATUS, SOURCE_REMOVED, WIDTH, HEIGHT]
    for table in iter_rows(opened, RowSelection(columns=columns), batch_rows=_BATCH_ROWS):
        kept = table.filter(pc.invert(table[SOURCE_REMOVED]))
        rows, removed = rows + kept.num_rows, removed + table.num_rows - kept.num_rows
        if not kept.num_rows:
            continue
        example = example or kept[IMAGE_URI][0].as_py()
        names = kept[CONTENT_SHA256] if by_content else last_parts(_paths(kept[IMAGE_URI], truth), 1)
        is_named = pc.is_in(names, wanted)
        tables.append(kept.filter(is_named))
        others = kept[IMAGE_URI].filter(pc.invert(is_named))
        other = other or (others[0].as_py() if len(others) else None)
    if example is None:
        raise UsageError(f"{opened.store.root}: expected rows to compare with the truth, got none yet")
    candidates = pa.concat_tables(tables).sort_by(ROW_ID)
    return _Scan(candidates, rows, removed, example, other)


def _paths(names: pa.Array, truth: Truth) -> pa.Array:
    return normalize_paths(names, keep_suffix=truth.has_suffixes)


def _match_paths(truth: Truth, candidates: pa.Table) -> tuple[Ints, str]:
    """For each row the image of the truth that it is about or -1, by as many last parts as agree for any."""
    names, paths = _paths(pa.array(truth.image_names, pa.string()), truth), _paths(candidates[IMAGE_URI], truth)
    lengths = count_parts(names)
    deepest = int(lengths.max())
    for parts in range(deepest, 0, -1):
        keys = last_parts(names, parts)
        matches = _match_last_parts(keys, np.minimum(lengths, parts), paths)
        if parts == 1 or (matches >= 0).any():
            break
    _refuse_ambiguous_names(truth, keys, matches)
    _refuse_ambiguous_rows(truth, matches, candidates)
    if parts == 1:
        return matches, "file name" if truth.has_suffixes else "file name without its suffix"
    return matches, "path" if parts == deepest else f"last {parts} parts of the path"


def _match_last_parts(keys: pa.Array, lengths: Ints, paths: pa.ChunkedArray) -> Ints:
    """Compare each key with the last parts of paths, as many as it has; a path belongs to the longest key that fits."""
    matches = np.full(len(paths), -1, np.int64)
    for length in sorted(set(lengths.tolist()), reverse=True):
        chosen = np.flatnonzero(lengths == length)
        positions = _match(keys.take(pa.array(chosen)), last_parts(paths, length))
        matches = np.where((matches < 0) & (positions >= 0), chosen[positions], matches)
    return matches


def _match(keys: pa.Array, values: pa.ChunkedArray) -> Ints:
    """Position of each value among the keys, or -1."""
    positions = pc.index_in(values, keys)
    return np.asarray(pc.fill_null(positions, -1).to_numpy()).astype(np.int64)


def _refuse_ambiguous_names(truth: Truth, keys: pa.Array, matches: Ints) -> None:
    """Refuse two images of the truth whose names differ only where the run's locations say something else."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.to_numpy()
    shared = np.bincount(codes)[codes] > 1
    wrong = matches[(matches >= 0) & shared[matches]]
    if len(wrong):
        first, second = np.flatnonzero(codes == codes[wrong[0]])[:2]
        raise UsageError(
            f"{truth.source}: expected names that tell images apart, got {truth.image_names[first]} and "
            f"{truth.image_names[second]}, of which only {keys[int(first)]} agrees with the run; use its locations"
        )


def _refuse_ambiguous_rows(truth: Truth, matches: Ints, candidates: pa.Table) -> None:
    """Refuse a name that fits rows with different locations."""
    rows = np.flatnonzero(matches >= 0)
    order = rows[np.argsort(matches[rows], kind="stable")]
    uris = candidates[IMAGE_URI].take(order).to_numpy()
    wrong = np.flatnonzero((matches[order][1:] == matches[order][:-1]) & (uris[1:] != uris[:-1]))
    if len(wrong):
        raise UsageError(
            f"{truth.source}: expected names that fit one image, got {truth.image_names[matches[order][wrong[0]]]}, "
            f"which fits {uris[wrong[0]]} and {uris[wrong[0] + 1]}; write more of the path into the truth"
        )


def _count(opened: OpenedOutput, truth: Truth, where: Where, scan: _Scan, matches: Ints, matched_by: str) -> Alignment:
    """Turn the matches into the row of each image, and count the rest."""
    matched = np.flatnonzero(matches >= 0)[::-1]  # of several rows of one image the first remains
    all_rows = np.full(len(truth.image_names), NO_ROW, np.int64)
    ids = scan.candidates[ROW_ID].to_numpy()
    all_rows[matches[matched]] = ids[matched]
    row_sizes = np.zeros((len(all_rows), 2), np.int32)
    for axis, name in enumerate((WIDTH, HEIGHT)):
        row_sizes[matches[matched], axis] = pc.fill_null(scan.candidates[name], 0).to_numpy()[matched]
    is_ok = pc.equal(scan.candidates[STATUS], OK).to_numpy()
    usable = np.isin(all_rows, ids[is_ok])
    selected = usable if where is None else usable & np.isin(all_rows, _selected_rows(opened, where))
    nameless = np.flatnonzero(matches < 0)
    other = scan.candidates[IMAGE_URI][int(nameless[0])].as_py() if len(nameless) else None
    missing = np.flatnonzero(all_rows == NO_ROW)
    return Alignment(
        row_ids=np.where(selected, all_rows, NO_ROW),
        row_sizes=row_sizes,
        matched_by=matched_by,
        without_row=len(missing),
        failed=int(((all_rows != NO_ROW) & ~usable).sum()),
        not_selected=int((usable & ~selected).sum()),
        rows=scan.rows,
        rows_without_truth=scan.rows - len(matched),
        removed_rows=scan.removed,
        example_without_row=truth.image_names[missing[0]] if len(missing) else None,
        example_without_truth=scan.other_example or other,
    )


def _selected_rows(opened: OpenedOutput, where: Where) -> Ints:
    tables = iter_rows(opened, RowSelection(columns=[ROW_ID], where=where), batch_rows=_BATCH_ROWS)
    return np.concatenate([np.zeros(0, np.int64), *(table[ROW_ID].to_numpy() for table in tables)])
