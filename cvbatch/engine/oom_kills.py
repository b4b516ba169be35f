"""Processes that the kernel kills because a container is too small: Ray restarts them endlessly without a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from cvbatch.engine.memory import MIN_SHARES, describe_need_and_limit, min_store_bytes, needed_bytes
from cvbatch.errors import HaltError, RowError
from cvbatch.models.spec import ModelSpec
from cvbatch.planning.units import RowUnit
from cvbatch.stages.decoded_rows import to_error_rows
from cvbatch.system.control_group import ROOT, count_memory_kills, memory_limit

_MAX_KILLS_IN_A_ROW: Final = 3
"""Kills without progress between them after which another attempt will not help."""


class OomKillMonitor:
    """Counts the processes of this container that were killed for memory since the last progress.

    Args:
        models: Of the job.
        root: Root folder of the system's files.
    """

    def __init__(self, models: Sequence[ModelSpec], root: Path = ROOT) -> None:
        self._models = models
        self._root = root
        self._before = count_memory_kills(self._root)

    def note_progress(self) -> None:
        """Reset the count, because something was completed."""
        self._before = count_memory_kills(self._root)

    @property
    def kills_in_a_row(self) -> int:
        """Kills since the last progress."""
        return count_memory_kills(self._root) - self._before

    @property
    def kills_too_often(self) -> bool:
        """Whether to stop trying."""
        return self.kills_in_a_row >= _MAX_KILLS_IN_A_ROW

    def halt_error(self) -> HaltError:
        """Return the error that reports the kills and the need of memory."""
        kill_count, limit = self.kills_in_a_row, memory_limit(self._root) or 0
        times = "once" if kill_count == 1 else f"{kill_count} times"
        need_and_limit = describe_need_and_limit(
            limit, needed_bytes(self._models, MIN_SHARES, min_store_bytes(self._models))
        )
        return HaltError(
            f"killed for memory {times}; {need_and_limit}: give it more memory, or lower compute.num_actors and "
            "compute.batch_size, and run the same command to resume"
        )

    def name_oom_error(self, answer: RowError) -> RowError:
        """Return the error of an image whose process died, with memory as the reason if there were kills."""
        if answer.type != "ProcessDied" or not self.kills_in_a_row:
            return answer
        return RowError(answer.stage, answer.type, "the process that worked on this image was killed for memory", True)


def separate_oom_victims(
    answers: Iterable[tuple[RowUnit, pa.Table | RowError]],
    rows: Callable[[RowUnit], pa.Table],
    schema: pa.Schema,
    kill_monitor: OomKillMonitor,
    is_first_work: bool,
) -> Iterator[pa.Table]:
    """Yield the rows of images that were tried alone; an image that killed its process becomes an error row.

    Args:
        answers: Of one image each.
        rows: Returns the plan's row of a unit.
        schema: Of the predictions.
        kill_monitor: Counts kills for memory.
        is_first_work: Whether this attempt has completed nothing so far. In that case repeated kills mean that the
            container is too small, and not that the images are at fault.

    Raises:
        HaltError: If the container is too small.
    """
    for unit, answer in answers:
        if not isinstance(answer, RowError):
            is_first_work = False
            kill_monitor.note_progress()
            yield answer
        elif is_first_work and kill_monitor.kills_too_often:
            raise kill_monitor.halt_error()
        else:
            yield to_error_rows(rows(unit), schema, kill_monitor.name_oom_error(answer))
