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
from cvbatch.truth.image_names import are_hashes, last_parts
from cvbatch.truth.matching import match_images, truth_paths

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
    scan = _scan_rows(opened, truth, are_hashes(truth.image_names))
    matches, matched_by = match_images(truth, scan.candidates)
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
    wanted = pc.utf8_lower(wanted) if by_content else last_parts(truth_paths(wanted, truth), 1)
    tables, rows, removed, example, other = [], 0, 0, None, None
    columns = [ROW_ID, IMAGE_URI, CONTENT_SHA256, STATUS, SOURCE_REMOVED, WIDTH, HEIGHT]
    for table in iter_rows(opened, RowSelection(columns=columns), batch_rows=_BATCH_ROWS):
        kept = table.filter(pc.invert(table[SOURCE_REMOVED]))
        rows, removed = rows + kept.num_rows, removed + table.num_rows - kept.num_rows
        if not kept.num_rows:
            continue
        example = example or kept[IMAGE_URI][0].as_py()
        names = kept[CONTENT_SHA256] if by_content else last_parts(truth_paths(kept[IMAGE_URI], truth), 1)
        is_named = pc.is_in(names, wanted)
        tables.append(kept.filter(is_named))
        others = kept[IMAGE_URI].filter(pc.invert(is_named))
        other = other or (others[0].as_py() if len(others) else None)
    if example is None:
        raise UsageError(f"{opened.store.root}: expected rows to compare with the truth, got none yet")
    candidates = pa.concat_tables(tables).sort_by(ROW_ID)
    return _Scan(candidates, rows, removed, example, other)


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
