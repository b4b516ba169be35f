"""Gather predicted blocks into files: when a file closes, and what an interruption does."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Final

from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from cvbatch.engine.dataflow import WaveEndedError
from cvbatch.engine.ray_tasks import FileWriters
from cvbatch.output.data_files import WriteResult
from cvbatch.system.ray_compat import BlockBundle

_MAX_ROWS: Final = 65_536
_MAX_BYTES: Final = 128 << 20
_MIN_SECONDS, _MAX_SECONDS = 2.0, 30.0
_SHARE_OF_ELAPSED: Final = 1 / 8
"""Files close sooner early in a run, so that a short run also commits in several steps."""
_LAST_CALL_SECONDS: Final = 1.0
_WAITS_FOR_FILE, _WAITS_AT_MOST = 1 / 4, 2.0
"""How long to wait for a file that is being written before requesting the next unit: a share of the time that the last
unit took, and at most this many seconds. Otherwise the file is committed only after the next unit, which takes half a
minute with a slow model."""


def iter_written_files(
    bundles: Generator[BlockBundle], writers: FileWriters, *, write_first_now: bool, min_seconds: float = _MIN_SECONDS
) -> Iterator[list[WriteResult]]:
    """Gather predicted units into files and yield each file once it is written.

    A file closes at 64k rows, 128 MB or about 30 s of work. An interruption closes the open file, waits for up to
    a second, yields the files that are written by then, and is raised again.

    Args:
        bundles: Predicted units, as references.
        writers: Where to write.
        write_first_now: Write the first unit as a file of its own at once, so that the first commit comes soon.
        min_seconds: Minimum age at which any other file closes because of its age.
    """
    open_bundles: list[BlockBundle] = []
    started = opened = last_arrival = time.monotonic()
    try:
        for bundle in bundles:
            if write_first_now:
                yield [writers.write_in_driver([bundle])]
                write_first_now = False
                opened = last_arrival = time.monotonic()
                continue
            open_bundles.append(bundle)
            has_max_rows = sum(block_bundle.num_rows() or 0 for block_bundle in open_bundles) >= _MAX_ROWS
            has_max_bytes = sum(block_bundle.size_bytes() for block_bundle in open_bundles) >= _MAX_BYTES
            now = time.monotonic()
            is_due = now - opened >= min(_MAX_SECONDS, max(min_seconds, (now - started) * _SHARE_OF_ELAPSED))
            if has_max_rows or has_max_bytes or is_due:
                writers.submit_blocks(open_bundles)
                open_bundles, opened = [], now
            if finished := writers.finished_files(timeout=min(_WAITS_AT_MOST, (now - last_arrival) * _WAITS_FOR_FILE)):
                yield finished
            last_arrival = now
    except WaveEndedError:
        pass  # units that are predicted by then are still written
    except KeyboardInterrupt:
        if open_bundles:
            writers.submit_blocks(open_bundles)
        yield writers.finished_files(timeout=_LAST_CALL_SECONDS)
        raise
    except (RayError, ExecutionTimeoutError):
        if open_bundles:
            writers.submit_blocks(open_bundles)
        yield writers.finished_files(timeout=None)
        raise
    finally:
        bundles.close()
    if open_bundles:
        writers.submit_blocks(open_bundles)
    if finished := writers.finished_files(timeout=None):
        yield finished
