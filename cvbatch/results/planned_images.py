"""The bytes of some images of a run, fetched as the run has fetched them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import RowError, capture_row_error
from cvbatch.output.commit_log import CommitLog
from cvbatch.planning.moved import current_job
from cvbatch.planning.parts import part_row_ranges, read_plan_part
from cvbatch.planning.plan import all_plan_parts
from cvbatch.results.committed import OpenedOutput
from cvbatch.schema import ROW_ID
from cvbatch.sources.fetch.plan_rows import plan_fetches


def iter_image_bytes(opened: OpenedOutput, row_ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    """Fetch images.

    Args:
        opened: The run.
        row_ids: Which images, (n,) without repetition.

    Yields:
        Row id and encoded bytes; images that cannot be read any more are left out.
    """
    state = CommitLog(opened.store, opened.plan.rows).state
    options = current_job(opened.plan, state).source.fetch_options
    missing = np.sort(row_ids)
    for part in all_plan_parts(opened.plan, state):
        if not any(low < high and _any_between(missing, low, high) for low, high in part_row_ranges(part)):
            continue
        rows = read_plan_part(opened.store, part)
        rows = rows.filter(pa.array(np.isin(rows[ROW_ID].to_numpy(), missing))).combine_chunks()
        missing = np.setdiff1d(missing, rows[ROW_ID].to_numpy())
        for row_id, fetch in zip(rows[ROW_ID].to_pylist(), plan_fetches(rows, options), strict=True):
            data = capture_row_error("fetch", fetch)
            if not isinstance(data, RowError):
                yield row_id, data


def _any_between(ordered: npt.NDArray[np.int64], low: int, high: int) -> bool:
    return bool(np.searchsorted(ordered, low) < np.searchsorted(ordered, high))
