"""Reading the rows of a run as a pandas frame or an Arrow dataset, also while the run is in progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.dataset as pads

from cvbatch.errors import OutputError, UsageError
from cvbatch.results.committed import Output, Storage, load_committed, open_output
from cvbatch.results.data_frame import MemoryBudget, to_data_frame
from cvbatch.results.elements import read_detections as read_detections  # until no old path leads here
from cvbatch.results.elements import read_segments as read_segments
from cvbatch.results.streaming import RowSelection, read_rows
from cvbatch.results.where import Where
from cvbatch.tasks.depth_maps import decode_depth as decode_depth
from cvbatch.tasks.masks import decode_mask as decode_mask

if TYPE_CHECKING:
    import pandas as pd


def read(
    output: Output,
    *,
    columns: Sequence[str] | None = None,
    filter: pads.Expression | None = None,
    where: Where = None,
    max_bytes: int | None = None,
    storage: Storage = None,
) -> pd.DataFrame:
    """Read the predictions of a run.

    Args:
        output: The output location.
        columns: Only these columns; `source_removed` says whether the image was removed from the source.
        filter: Only rows that match this expression, such as `pyarrow.dataset.field("status") == "ok"`; the older
            name of `where`.
        where: Only rows for which this holds: a condition as in SQL, such as `"status = 'ok' AND width > 1000"`, or an
            Arrow expression. Columns and conditions are pushed down to Parquet.
        max_bytes: Most memory that the frame and what it is made from may take; None for four fifths of what is free.
        storage: Options for an object store: `endpoint_url`, `region`, `path_style`, `anonymous`, `profile`.

    Returns:
        One row per committed image, in the order of the plan. After a move of the source, `image_uri` is the new
        location. Integer columns with missing values, such as `width` of an image that could not be decoded, have
        pandas' nullable types.

    Raises:
        OutputError: If there is no run, or the frame does not fit into memory.
        CorruptionError: If a committed file is missing.
        UsageError: If a column or the condition is wrong, or both conditions are given.
    """
    if filter is not None and where is not None:
        raise UsageError("expected one condition, got filter= and where=; give the whole condition as where=")
    selection = RowSelection(columns=columns, where=filter if where is None else where)
    return to_data_frame(read_rows(open_output(output, storage), selection, MemoryBudget(max_bytes)))


def open_dataset(output: Output, *, storage: Storage = None) -> pads.Dataset:
    """Open the predictions as an Arrow dataset, for data larger than memory.

    Args:
        output: The output location.
        storage: As for `read`.

    Returns:
        Dataset of the files that are committed now; each `image_uri` is as it was when the file was written.

    Raises:
        OutputError: If there is no run.
    """
    opened = open_output(output, storage)
    return load_committed(opened, lambda committed: opened.open_files(committed.files))


def label_map(output: Output, alias: str, *, storage: Storage = None) -> dict[int, str]:
    """Return the categories of a model as id → name.

    Args:
        output: The output location.
        alias: Column prefix of the model.
        storage: As for `read`.

    Raises:
        OutputError: If the run has no such model.
    """
    models = open_output(output, storage).plan.models
    for model in models:
        if model.alias == alias:
            return {index: name for index, name in enumerate(model.categories) if name is not None}
    raise OutputError(f"{output} has no model {alias!r}; it has {', '.join(model.alias for model in models)}")
