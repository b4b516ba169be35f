"""The images of a run as its plan knows them: their files, and their bytes, fetched as the run has fetched them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from cvbatch.errors import RowError, UsageError, capture_row_error
from cvbatch.export.base import ImageBatch
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.row_ranges import ranges_of_rows
from cvbatch.planning.moved import current_job
from cvbatch.planning.plan import all_plan_parts
from cvbatch.planning.units import cut_into_units, read_unit_rows
from cvbatch.results.committed import OpenedOutput
from cvbatch.schema import CONTENT_SHA256, FORMAT, ROW_ID
from cvbatch.sources.entries import exact_paths, spans_of_entries
from cvbatch.sources.fetch.plan_rows import plan_fetches

CONTENT_COLUMNS: Final = (CONTENT_SHA256, FORMAT)
"""Columns that a batch must have for `PlannedImages.iter_images`."""
_THREADS: Final = 8
_UNIT_ROWS: Final = 512
_SUFFIXES: Final = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image of a batch."""

    position: int
    """In its batch."""
    suffix: str
    """By its content, without a dot, such as `jpg`."""
    data: bytes


class PlannedImages:
    """Finds and fetches the images of batches, in memory that does not grow with the run.

    Args:
        opened: The run.
    """

    def __init__(self, opened: OpenedOutput) -> None:
        self._store, self._location = opened.store, opened.location
        state = CommitLog(opened.store, opened.plan.rows).state
        self._parts = all_plan_parts(opened.plan, state)
        self._options = current_job(opened.plan, state).source.fetch_options
        self._unreadable = self._changed = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Images that `iter_images` has left out, by the reason."""
        counts = {"images that cannot be read any more": self._unreadable, "images changed since": self._changed}
        return {reason: count for reason, count in counts.items() if count}

    def find_files(self, batch: ImageBatch, otherwise: str) -> list[str]:
        """Paths of the images of a batch, all of which must be files on this disk.

        Args:
            batch: (n images)
            otherwise: What to ask for instead, such as `--images copy`.

        Raises:
            UsageError: If one is an object, a page, or in an archive or a table.
        """
        files = [""] * batch.images.num_rows
        for positions, rows in self._iter_plan_rows(batch):
            for position, path, span in zip(positions, exact_paths(rows), spans_of_entries(rows), strict=True):
                if span is not None or not path.startswith(b"/"):
                    name = path.decode(errors="backslashreplace")
                    raise UsageError(f"{name} holds images that are no files of their own; use {otherwise}")
                files[position] = os.fsdecode(path)
        return files

    def iter_images(self, batch: ImageBatch) -> Iterator[EncodedImage]:
        """Fetch the images of a batch, in any order; those that are gone or have changed are left out and counted.

        Args:
            batch: Has `CONTENT_COLUMNS`.
        """
        hashes, formats = (batch.images[name].to_pylist() for name in CONTENT_COLUMNS)
        with ThreadPoolExecutor(_THREADS) as pool:
            for positions, rows in self._iter_plan_rows(batch):
                results = pool.map(partial(capture_row_error, "fetch"), plan_fetches(rows, self._options))
                for position, data in zip(positions, results, strict=True):
                    if isinstance(data, RowError):
                        self._unreadable += 1
                    elif hashlib.sha256(data).hexdigest() != hashes[position]:
                        self._changed += 1
                    else:
                        suffix = formats[position] or "bin"
                        yield EncodedImage(position, _SUFFIXES.get(suffix, suffix), data)

    def _iter_plan_rows(self, batch: ImageBatch) -> Iterator[tuple[list[int], pa.Table]]:
        """Rows of the plan, a few at once, with their positions in the batch."""
        row_ids = batch.image_numbers(ROW_ID)
        order = np.argsort(row_ids)
        for unit in cut_into_units(self._store, self._parts, ranges_of_rows(row_ids), _UNIT_ROWS):
            rows = read_unit_rows(self._location, unit)
            yield order[np.searchsorted(row_ids[order], rows[ROW_ID].to_numpy())].tolist(), rows
