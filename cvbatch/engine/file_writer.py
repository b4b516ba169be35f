"""From predicted blocks to written files: when a file closes, and what happens at an interruption."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Final

from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from cvbatch.engine.dataflow import WaveEndedError
from cvbatch.engine.tasks import FileWriters
from cvbatch.output.data_files import WriteResult
from cvbatch.system.ray_compat import BlockBundle

_MAX_ROWS: Final = 65_536
_MAX_BYTES: Final = 128 << 20
_MIN_SECONDS, _MAX_SECONDS = 2.0, 30.0
_SHARE_OF_ELAPSED: Final = 1 / 8
"""Files of a young run close sooner, so that a short run is committed in several steps too."""
_LAST_CALL_SECONDS: Final = 1.0
_WAITS_FOR_FILE, _WAITS_AT_MOST = 1 / 4, 2.0
"""Of the time that the last unit took to come, and seconds: so long a file that is being written is waited for before
the next unit is asked for. It would lie there until that came, which a slow model takes half a minute for."""


def iter_written_files(
    bundles: Generator[BlockBundle], writers: FileWriters, *, early: bool, min_seconds: float = _MIN_SECONDS
) -> Iterator[list[WriteResult]]:
    """Gather predicted units into files and hand out each file once it is written.

    A file closes at 64k rows, 128 MB or about 30 s of work. An interruption closes the open file, waits a
    moment, hands out what is there and goes on its way.

    Args:
        bundles: Predicted units, as references.
        writers: Where to write.
        early: Make a file of the first unit at once, so that something is committed soon.
        min_seconds: No other file closes sooner for its age.
    """
    gathered: list[BlockBundle] = []
    started = since = came = time.monotonic()
    try:
        for bundle in bundles:
            if early:
                yield [writers.write_in_driver([bundle])]
                early = False
                since = came = time.monotonic()
                continue
            gathered.append(bundle)
            full = sum(one.num_rows() or 0 for one in gathered) >= _MAX_ROWS
            large = sum(one.size_bytes() for one in gathered) >= _MAX_BYTES
            now = time.monotonic()
            old = now - since >= min(_MAX_SECONDS, max(min_seconds, (now - started) * _SHARE_OF_ELAPSED))
            if full or large or old:
                writers.submit_blocks(gathered)
                gathered, since = [], now
            if finished := writers.finished_files(timeout=min(_WAITS_AT_MOST, (now - came) * _WAITS_FOR_FILE)):
                yield finished
            came = now
    except WaveEndedError:
        pass  # what is predicted by then is still written
    except KeyboardInterrupt:
        if gathered:
            writers.submit_blocks(gathered)
        yield writers.finished_files(timeout=_LAST_CALL_SECONDS)
        raise
    except (RayError, ExecutionTimeoutError):
        if gathered:
            writers.submit_blocks(gathered)
        yield writers.finished_files(timeout=None)
        raise
    finally:
        bundles.close()
    if gathered:
        writers.submit_blocks(gathered)
    if finished := writers.finished_files(timeout=None):
        yield finished
