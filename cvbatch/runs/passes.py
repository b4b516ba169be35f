"""Passes over the missing rows: first in waves of units, then in smaller units, finally one row at a time.

An image that hangs also blocks the units behind it. So after a stall among the smaller units, the remaining units run
once more in reverse order: the rows before and behind that image get done, and only the units that hung run row by
row, which costs one process per image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cvbatch.engine.base import Engine
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteResult
from cvbatch.output.row_ranges import RowRange
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.planning.units import cut_into_units

_WAVES: Final = (1_000, 50_000)
"""Most units in the first wave, and in later waves. Ray plans a wave as a whole, so a small first wave gives early
results."""
_SHRINK_FACTOR: Final = 8
"""Rows that the first pass did not compute run again in units this many times smaller."""
_PASSES: Final = ((1, False), (_SHRINK_FACTOR, False), (_SHRINK_FACTOR, True))
"""For each pass, by what factor the units are smaller, and whether they run in reverse order."""
_FIRST_UNIT_SHRINK_FACTOR: Final = 4
"""The first unit of a pass is this many times smaller, so that its result comes early."""
_MAX_LOST_UNITS, _MAX_LOST_SHARE = 10, 1 / 20
"""The run stops when the first pass loses more units than these with their processes: then images are not the cause."""


def compute_missing_rows(
    engine: Engine,
    log: CommitLog,
    plan: Plan,
    missing: Callable[[], Iterable[RowRange]],
    *,
    waves: tuple[int, int] = _WAVES,
) -> Iterator[list[WriteResult]]:
    """Compute rows until none is missing; yields results once their files are written.

    Args:
        engine: Engine prepared for the plan.
        log: The open log of the run.
        plan: Plan of the run.
        missing: Returns the row ranges that are not computed yet; called at the start of each pass.
        waves: Most units in the first wave, and in later waves.

    Raises:
        RunError: If the stages cannot continue.
    """
    wave_size, later_wave_size = waves
    for shrink_factor, in_reverse in _PASSES:
        if in_reverse and not engine.has_stalled:
            continue
        resized = True
        while resized:
            resized, unit_rows = False, max(1, engine.unit_rows // shrink_factor)
            first_rows = max(1, unit_rows // _FIRST_UNIT_SHRINK_FACTOR)
            parts = all_plan_parts(plan, log.state)
            units = cut_into_units(log.store, parts, missing(), unit_rows, first_rows=first_rows)
            if in_reverse:
                units = iter(list(units)[::-1])
            while not resized and (wave := list(itertools.islice(units, wave_size))):
                images_are_suspect = shrink_factor > 1 and len(log.state.accepted) > 0
                loss_limit = max(_MAX_LOST_UNITS, int(len(wave) * _MAX_LOST_SHARE))
                max_lost = len(wave) if images_are_suspect else loss_limit
                yield from engine.run_units(wave, log.epoch, max_lost_units=max_lost)
                wave_size = later_wave_size
                if engine.time_is_up:
                    return
                resized = engine.rebalance()  # if so, the remaining rows are cut into units again
    if isolated := list(cut_into_units(log.store, all_plan_parts(plan, log.state), missing(), 1)):
        yield from engine.run_isolated(isolated, log.epoch)
