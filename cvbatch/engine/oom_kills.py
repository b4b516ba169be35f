"""Processes that the kernel ends because a container is too small: Ray starts them anew for ever, and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from cvbatch.engine.memory import LEAST, least_store, needed, two_numbers
from cvbatch.errors import HaltError, RowError
from cvbatch.models.spec import ModelSpec
from cvbatch.planning.units import Unit
from cvbatch.stages.decode import error_rows
from cvbatch.system.control_group import ROOT, memory_kills, memory_limit

_MOST: Final = 3
"""Kills with nothing done between them, after which more of the same will not help."""


class KillWatch:
    """Counts the processes of this container that were killed for memory since something was last done.

    Args:
        models: Of the job.
        root: Where the files of the system are.
    """

    def __init__(self, models: Sequence[ModelSpec], root: Path = ROOT) -> None:
        self._models = models
        self._root = root
        self._before = memory_kills(self._root)

    def done(self) -> None:
        """Something was done: from here on kills count anew."""
        self._before = memory_kills(self._root)

    @property
    def in_a_row(self) -> int:
        """Kills since then."""
        return memory_kills(self._root) - self._before

    @property
    def too_often(self) -> bool:
        """Whether to stop trying."""
        return self.in_a_row >= _MOST

    def error(self) -> HaltError:
        """What to say of it."""
        killed, limit = self.in_a_row, memory_limit(self._root) or 0
        times = "once" if killed == 1 else f"{killed} times"
        numbers = two_numbers(limit, needed(self._models, LEAST, least_store(self._models)))
        return HaltError(
            f"killed for memory {times}; {numbers}: give it more memory, or lower compute.num_actors and "
            "compute.batch_size, and the same command goes on"
        )

    def named(self, answer: RowError) -> RowError:
        """The same error of an image whose process died, with the reason if that was memory."""
        if answer.type != "ProcessDied" or not self.in_a_row:
            return answer
        return RowError(answer.stage, answer.type, "the process that worked on this image was killed for memory", True)


def told_apart(
    answers: Iterable[tuple[Unit, pa.Table | RowError]],
    rows: Callable[[Unit], pa.Table],
    schema: pa.Schema,
    kills: KillWatch,
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
            kills.done()
            yield answer
        elif first and kills.too_often:
            raise kills.error()
        else:
            yield error_rows(rows(unit), schema, kills.named(answer))
