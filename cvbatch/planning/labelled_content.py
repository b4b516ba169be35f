"""Whether images are still those that were labelled, by their content."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import RowError, capture_row_error
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import read_data_file
from cvbatch.output.row_ranges import RowRanges, ranges_of_rows
from cvbatch.planning.units import slice_by_bytes
from cvbatch.schema import CONTENT_SHA256, ERROR, ROW_ID, SPAN, STATUS
from cvbatch.sources.fetch.plan_rows import Fetch, plan_fetches
from cvbatch.storage.fetch_options import FetchOptions

_HASH_THREADS: Final = 8


def flag_changed_content(log: CommitLog, candidates: pa.Table, fetch_options: FetchOptions) -> npt.NDArray[np.bool_]:
    """Flag images whose content differs from when they were labelled, and images that cannot be fetched.

    An error row with the same content keeps its planned row, unless the image is in a container: its position there
    may have changed.

    Args:
        log: Of the run.
        candidates: Planned rows with their row ids, as they are fetched now.
        fetch_options: Options for fetching them.

    Returns:
        (candidates,)
    """
    labelled = _labelled_hashes(log, RowRanges(ranges_of_rows(candidates[ROW_ID].to_numpy())))
    current_hashes = list[str | None]()
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        for images in slice_by_bytes(candidates):
            current_hashes += pool.map(_hash_content, plan_fetches(images, fetch_options))
    rows = zip(candidates[ROW_ID].to_pylist(), current_hashes, pc.is_valid(candidates[SPAN]).to_pylist(), strict=True)
    flags = []
    for row, sha, in_container in rows:
        labelled_sha, failed = labelled.get(row, (None, True))
        flags.append(sha is None or sha != labelled_sha or (failed and in_container))
    return np.array(flags, np.bool_)


def _hash_content(fetch: Fetch) -> str | None:
    content = capture_row_error("fetch", fetch)
    return None if isinstance(content, RowError) else hashlib.sha256(content).hexdigest()


def _labelled_hashes(log: CommitLog, rows: RowRanges) -> dict[int, tuple[str | None, bool]]:
    """Content hash of each of these rows, and whether the row is an error."""
    hashes: dict[int, tuple[str | None, bool]] = {}
    for file in log.state.files.values():
        if any(rows.overlaps(*row_range) for row_range in file.ranges):
            table = read_data_file(log.store, file, [ROW_ID, CONTENT_SHA256, STATUS])
            columns = (table[name].to_pylist() for name in (ROW_ID, CONTENT_SHA256, STATUS))
            hashes |= {row: (sha, status == ERROR) for row, sha, status in zip(*columns, strict=True)}
    return hashes
