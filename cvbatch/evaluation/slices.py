"""Splits the images of the truth by a column, by folder or by size."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import check_group_column, check_names
from cvbatch.schema import HEIGHT, IMAGE_URI, ROW_ID, WIDTH
from cvbatch.truth.alignment import Alignment
from cvbatch.truth.base import Bools

FOLDER: Final = "folder"
SIZE: Final = "size"
MOST_SLICES: Final = 1000
_MEGAPIXELS: Final = (0.1, 0.5, 2, 8, 32)
"""Where the slices by size begin and end."""
_SIZE_NAMES: Final = (
    f"under {_MEGAPIXELS[0]:g} MP",
    *(f"{low:g} to {high:g} MP" for low, high in pairwise(_MEGAPIXELS)),
    f"{_MEGAPIXELS[-1]:g} MP and more",
)
_MISSING: Final = "(none)"


def slice_images(opened: OpenedOutput, alignment: Alignment, by: str) -> dict[str, Bools]:
    """Split the images that take part.

    Args:
        opened: The run.
        alignment: Row of each image.
        by: `folder` (that of `image_uri`), `size` (megapixels), or a column of the predictions.

    Returns:
        For each value a mask over the images of the truth, in the order of the values.

    Raises:
        UsageError: If there is no such column, or it has more than a thousand values.
    """
    columns = {FOLDER: [IMAGE_URI], SIZE: [WIDTH, HEIGHT]}.get(by, [by])
    check_names("column", columns, [*opened.schema.names, FOLDER, SIZE])
    check_group_column(columns[0], opened.schema)
    values = np.full(len(alignment.row_ids), None, object)
    for table in iter_rows(opened, RowSelection(columns=list(dict.fromkeys([ROW_ID, *columns])))):
        images = alignment.truth_indices(table[ROW_ID].to_numpy())
        wanted = np.flatnonzero(images >= 0)
        if len(wanted):
            values[images[wanted]] = _slice_names(table.take(wanted), by).to_pylist()
    names = sorted(set(values[alignment.takes_part]))
    if len(names) > MOST_SLICES:
        raise UsageError(
            f"--by {by}: expected at most {MOST_SLICES} different values, got {len(names):,}, such as {names[0]!r}; "
            "use a column with fewer"
        )
    if by == SIZE:
        names.sort(key=_SIZE_NAMES.index)
    return {name: np.asarray(values == name) for name in names}


def _slice_names(rows: pa.Table, by: str) -> pa.ChunkedArray:
    if by == FOLDER:
        return pc.replace_substring_regex(rows[IMAGE_URI], "[/#][^/#]*$", "")
    if by == SIZE:
        return _size_names(rows)
    return pc.fill_null(rows[by].cast(pa.string()), _MISSING)


def _size_names(rows: pa.Table) -> pa.Array:
    width, height = (rows[name].to_numpy().astype(np.float64) for name in (WIDTH, HEIGHT))
    steps = np.searchsorted(_MEGAPIXELS, width * height / 1e6, side="right")
    return pa.array(np.array(_SIZE_NAMES, object)[steps], pa.string())
