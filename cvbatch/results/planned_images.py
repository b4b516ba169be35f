"""The images of a run as its plan knows them: where they are, and their bytes, fetched as the run has fetched them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from cvbatch.config.job import Job
from cvbatch.errors import ImageError, OutputError, RowError, capture_row_error
from cvbatch.images.decode import decode
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.row_ranges import RowRanges
from cvbatch.planning.moved import current_job
from cvbatch.planning.parts import Part, iter_part_rows, part_row_ranges
from cvbatch.planning.plan import all_plan_parts
from cvbatch.planning.units import slice_by_bytes
from cvbatch.results.committed import OpenedOutput
from cvbatch.schema import ROW_ID
from cvbatch.sources.fetch.plan_rows import plan_fetches

_BATCH_ROWS: Final = 512
_THREADS: Final = 8
_MAX_PIXELS: Final = 178_000_000
"""Of an image for a picture."""
_AHEAD: Final = 2 * _THREADS
"""Images that are fetched before they are asked for."""


class PlannedImages:
    """The planned images of a run at one moment, in memory that does not grow with the run or with what is asked.

    Args:
        opened: The run. Its log is read here, once: keep the object for many questions.
    """

    def __init__(self, opened: OpenedOutput) -> None:
        state = CommitLog(opened.store, opened.plan.rows).state
        self._store = opened.store
        self._parts = all_plan_parts(opened.plan, state)
        self.job: Final[Job] = current_job(opened.plan, state)
        """The job of the run; a source that has moved is at its new place."""

    def iter_rows(self, row_ids: npt.NDArray[np.int64], *, batch_rows: int = _BATCH_ROWS) -> Iterator[pa.Table]:
        """Read the planned rows of some images, with all columns of the plan, as `plan_fetches` takes them.

        Args:
            row_ids: Which images, int64 (n,), in any order; one that is named twice is given once.
            batch_rows: Most rows of a table.

        Yields:
            Tables of at least one row. Images that have changed or moved since they were planned come first, with
            their newest facts; within a part of the plan rows are in order.

        Raises:
            OutputError: After all others, if the plan has no such row.
        """
        remaining = np.unique(row_ids)
        for part in self._parts:
            inside = _is_in_part(part, remaining)
            for rows in iter_part_rows(self._store, part, remaining[inside]):
                for images in slice_by_bytes(rows, batch_rows):
                    yield images.combine_chunks()
            remaining = remaining[~inside]
        if len(remaining):
            raise OutputError(f"{self._store.root}: its plan has no image of row_id {remaining[0]}")

    def iter_bytes(self, row_ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes | RowError]]:
        """Fetch the encoded bytes of some images, several at once; only a few are held.

        Args:
            row_ids: See `iter_rows`.

        Yields:
            Row id, and the bytes or why they cannot be read any more; once for each image. Whether they are still
            those that the run has seen is for the caller to compare (`content_sha256`).

        Raises:
            OutputError: See `iter_rows`.
        """
        pending = deque[tuple[int, Future[bytes | RowError]]]()
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        try:
            for rows in self.iter_rows(row_ids):
                fetches = plan_fetches(rows, self.job.source.fetch_options)
                for row_id, fetch in zip(rows[ROW_ID].to_pylist(), fetches, strict=True):
                    pending.append((row_id, pool.submit(partial(capture_row_error, "fetch", fetch))))
                    if len(pending) > _AHEAD:
                        yield _take_first(pending)
            while pending:
                yield _take_first(pending)
        finally:
            pool.shutdown(cancel_futures=True)

    def iter_photos(self, row_ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, Image.Image]]:
        """Decode some images for a picture; those that cannot be read any more are left out.

        Args:
            row_ids: See `iter_rows`.

        Yields:
            Row id, and the upright RGB image.

        Raises:
            OutputError: See `iter_rows`.
        """
        for row_id, data in self.iter_bytes(row_ids):
            if isinstance(data, RowError):
                continue
            try:
                yield row_id, decode(data, max_pixels=_MAX_PIXELS).image
            except ImageError:
                continue


def _is_in_part(part: Part, row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each row is in a part."""
    return RowRanges((low, high) for low, high in part_row_ranges(part) if low < high).contains_rows(row_ids)


def _take_first(pending: deque[tuple[int, Future[bytes | RowError]]]) -> tuple[int, bytes | RowError]:
    row_id, future = pending.popleft()
    return row_id, future.result()
