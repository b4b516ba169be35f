"""Reading boxes and segments: one row for each box, or for each class in an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cvbatch.results.committed import CommittedFiles, OpenedOutput, Output, Storage, open_output
from cvbatch.results.data_frame import to_data_frame
from cvbatch.results.list_columns import ElementColumn, ElementSelection, ElementTable
from cvbatch.results.streaming import BATCH_ROWS, RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.schema import HEIGHT, IMAGE_URI, ROW_ID, SOURCE_REMOVED, WIDTH
from cvbatch.tasks import DETECTION, SEGMENTATION, Task

if TYPE_CHECKING:
    import pandas as pd

_BOX_COLUMNS: Final = {
    "label": ElementColumn("labels"),
    "label_id": ElementColumn("label_ids"),
    "score": ElementColumn("scores"),
    "x_min": ElementColumn("boxes", 0),
    "y_min": ElementColumn("boxes", 1),
    "x_max": ElementColumn("boxes", 2),
    "y_max": ElementColumn("boxes", 3),
    "mask": ElementColumn("masks"),
    "keypoints": ElementColumn("keypoints"),
}
_SEGMENT_COLUMNS: Final = {
    "label": ElementColumn("labels"),
    "label_id": ElementColumn("label_ids"),
    "area": ElementColumn("areas"),
    "mask": ElementColumn("masks"),
}
_FRAME_BATCH_ROWS: Final = 131_072
"""Images at once where everything goes into one frame."""
_IMAGE_COLUMNS: Final = {DETECTION.name: (ROW_ID, IMAGE_URI), SEGMENTATION.name: (ROW_ID, IMAGE_URI, WIDTH, HEIGHT)}
ELEMENT_COLUMNS: Final = {DETECTION.name: _BOX_COLUMNS, SEGMENTATION.name: _SEGMENT_COLUMNS}
"""The columns of one row per element, by task."""


def read_detections(
    output: Output,
    alias: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    where: Where = None,
    min_score: float | None = None,
    classes: Sequence[str | int] | None = None,
    storage: Storage = None,
) -> pd.DataFrame:
    """Read boxes as a tidy frame: one row per box.

    Args:
        output: The output location.
        alias: Column prefix of the detection model; None if there is only one, or for the one called `detection`.
        columns: Names of the columns below, of any column of the images, and `element_index`, the position of a box in
            the lists of its image; None for those below.
        where: Only boxes of images for which this holds, such as `"width > 1000"`.
        min_score: Boxes with a lower score are left out.
        classes: Only boxes of these categories, by name or id.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `label`, `label_id`, `score`, `x_min`, `y_min`, `x_max`, `y_max` in pixels of
        the oriented original, and `mask` (COCO RLE counts) or `keypoints` (x, y, score flattened) if the
        model has them. Sorted by `row_id`; the boxes of an image with the best score first.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If a column, a class or the condition is wrong.
    """
    selection = ElementSelection(columns=columns, minimum=min_score, classes=classes)
    return _read_frame(open_output(output, storage), DETECTION, alias, selection, where)


def iter_detections(
    output: Output,
    alias: str | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    columns: Sequence[str] | None = None,
    where: Where = None,
    min_score: float | None = None,
    classes: Sequence[str | int] | None = None,
    storage: Storage = None,
) -> Iterator[pa.Table]:
    """Read boxes as Arrow tables, for runs that are larger than memory.

    Args:
        output: The output location.
        alias: As for `read_detections`.
        batch_rows: Most images whose boxes are in one table.
        columns: As for `read_detections`.
        where: As for `read_detections`.
        min_score: As for `read_detections`.
        classes: As for `read_detections`.
        storage: As for `read`.

    Yields:
        The rows of `read_detections`, in the order of the files: images that were labelled again come later.
    """
    selection = ElementSelection(columns=columns, minimum=min_score, classes=classes)
    return iter_elements(open_output(output, storage), DETECTION, alias, selection, where, batch_rows)


def read_segments(
    output: Output,
    alias: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    where: Where = None,
    min_area: float | None = None,
    classes: Sequence[str | int] | None = None,
    storage: Storage = None,
) -> pd.DataFrame:
    """Read segments as a tidy frame: one row per class in an image.

    Args:
        output: The output location.
        alias: Column prefix of the segmentation model; None if there is only one, or for the one called `segmentation`.
        columns: Names of the columns below, and of any column of the images; None for those below.
        where: Only segments of images for which this holds.
        min_area: Segments with a smaller share of the pixels are left out.
        classes: Only these categories, by name or id.
        storage: As for `read`.

    Returns:
        `row_id`, `image_uri`, `width`, `height`, `label`, `label_id`, `area` (share of the pixels) and
        `mask` (COCO RLE counts at the size of the oriented original; see `decode_mask`). Sorted by `row_id`.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If a column, a class or the condition is wrong.
    """
    selection = ElementSelection(columns=columns, threshold_list="areas", minimum=min_area, classes=classes)
    return _read_frame(open_output(output, storage), SEGMENTATION, alias, selection, where)


def iter_segments(
    output: Output,
    alias: str | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    columns: Sequence[str] | None = None,
    where: Where = None,
    min_area: float | None = None,
    classes: Sequence[str | int] | None = None,
    storage: Storage = None,
) -> Iterator[pa.Table]:
    """Read segments as Arrow tables, for runs that are larger than memory.

    Args:
        output: The output location.
        alias: As for `read_segments`.
        batch_rows: Most images whose segments are in one table.
        columns: As for `read_segments`.
        where: As for `read_segments`.
        min_area: As for `read_segments`.
        classes: As for `read_segments`.
        storage: As for `read`.

    Yields:
        The rows of `read_segments`, in the order of the files: images that were labelled again come later.
    """
    selection = ElementSelection(columns=columns, threshold_list="areas", minimum=min_area, classes=classes)
    return iter_elements(open_output(output, storage), SEGMENTATION, alias, selection, where, batch_rows)


def iter_elements(
    opened: OpenedOutput,
    task: Task,
    alias: str | None,
    selection: ElementSelection,
    where: Where = None,
    batch_rows: int = BATCH_ROWS,
    committed: CommittedFiles | None = None,
) -> Iterator[pa.Table]:
    """Flatten the rows of a model as a stream; see `iter_detections`.

    Args:
        opened: The run.
        task: Detection or segmentation.
        alias: Column prefix of the model, or None.
        selection: Elements and columns.
        where: Condition on images.
        batch_rows: Most images of one table; images with many elements come in smaller tables.
        committed: As for `iter_rows`.
    """
    elements = open_elements(opened, task, alias, selection)
    rows = RowSelection(columns=elements.stored_columns(), where=where)
    tables = iter_rows(opened, rows, batch_rows=batch_rows, committed=committed)
    return (part for table in tables for part in elements.iter_flattened(table))


def open_elements(opened: OpenedOutput, task: Task, alias: str | None, selection: ElementSelection) -> ElementTable:
    """What flattens the rows of a model.

    Args:
        opened: The run.
        task: Detection or segmentation.
        alias: Column prefix of the model, or None.
        selection: Elements and columns.
    """
    return ElementTable(
        opened.find_model(task, alias),
        ELEMENT_COLUMNS[task.name],
        _IMAGE_COLUMNS[task.name],
        [*opened.schema.names, SOURCE_REMOVED],
        selection,
    )


def _read_frame(
    opened: OpenedOutput, task: Task, alias: str | None, selection: ElementSelection, where: Where
) -> pd.DataFrame:
    names = selection.columns
    if names is not None and ROW_ID not in names:
        selection = replace(selection, columns=[*names, ROW_ID])
    elements = open_elements(opened, task, alias, selection)
    rows = RowSelection(columns=elements.stored_columns(), where=where)
    empty = opened.schema.append(pa.field(SOURCE_REMOVED, pa.bool_())).empty_table().select(rows.columns)
    tables = [elements.flatten(images) for images in iter_rows(opened, rows, batch_rows=_FRAME_BATCH_ROWS)]
    table = pa.concat_tables([elements.flatten(empty), *tables])
    row_ids = table[ROW_ID].to_numpy()
    if (row_ids[1:] < row_ids[:-1]).any():  # some images were labelled again
        table = table.take(np.argsort(row_ids, kind="stable"))
    return to_data_frame(table if names is None else table.select(list(names)))
