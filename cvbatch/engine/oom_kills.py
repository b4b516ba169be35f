"""Processes that the kernel ends because a container is too small: Ray starts them anew for ever, and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from cvbatch.engine.memory import MIN_SHARES, describe_need_and_limit, min_store_bytes, needed_bytes
from cvbatch.errors import HaltError, RowError
from cvbatch.models.spec import ModelSpec
from cvbatch.planning.units import RowUnit
from cvbatch.stages.decode import to_error_rows
from cvbatch.system.control_group import ROOT, count_memory_kills, memory_limit

_MAX_KILLS_IN_A_ROW: Final = 3
"""Kills with nothing done between them, after which more of the same will not help."""


class OomKillMonitor:
    """Counts the processes of this container that were killed for memory since something was last done.

    Args:
        models: Of the job.
        root: Where the files of the system are.
    """

    def __init__(self, models: Sequence[ModelSpec], root: Path = ROOT) -> None:
        self._models = models
        self._root = root
        self._before = count_memory_kills(self._root)

    def note_progress(self) -> None:
        """Something was done: from here on kills count anew."""
        self._before = count_memory_kills(self._root)

    @property
    def kills_in_a_row(self) -> int:
        """Kills since then."""
        return count_memory_kills(self._root) - self._before

    @property
    def is_too_often(self) -> bool:
        """Whether to stop trying."""
        return self.kills_in_a_row >= _MAX_KILLS_IN_A_ROW

    def halt_error(self) -> HaltError:
        """What to say of it."""
        killed, limit = self.kills_in_a_row, memory_limit(self._root) or 0
        times = "once" if killed == 1 else f"{killed} times"
        numbers = describe_need_and_limit(limit, needed_bytes(self._models, MIN_SHARES, min_store_bytes(self._models)))
        return HaltError(
            f"killed for memory {times}; {numbers}: give it more memory, or lower compute.num_actors and "
            "compute.batch_size, and the same command goes on"
        )

    def name_oom_error(self, answer: RowError) -> RowError:
        """The same error of an image whose process died, with the reason if that was memory."""
        if answer.type != "ProcessDied" or not self.kills_in_a_row:
            return answer
        return RowError(answer.stage, answer.type, "the process that worked on this image was killed for memory", True)


def separate_oom_victims(
    answers: Iterable[tuple[RowUnit, pa.Table | RowError]],
    rows: Callable[[RowUnit], pa.Table],
    schema: pa.Schema,
    kills: OomKillMonitor,
    first: bool,
) -> Iterator[pa.Table]:
    """Rows of images that were tried alone: error rows for those that took their process along.

    Args:
        answers: Of one image each.
        rows: Gives the row of the plan.
        schema: Of the rows.
        kills: Counts those for memory.
        first: Whether nothing was done before in this start. Then it may be that the container is too small, which is
            no fault of the images.

    Raises:
        HaltError: If it is.
    """
    for unit, answer in answers:
        if not isinstance(answer, RowError):
            first = False
            kills.note_progress()
            yield answer
        elif first and kills.is_too_often:
            raise kills.halt_error()
        else:
            yield to_error_rows(rows(unit), schema, kills.name_oom_error(answer))
