"""Every wanted row is computed: in waves of units, what that leaves undone in smaller units, in the end alone.

Where an image hangs, the units behind it wait in vain, too. So after a stall among the smaller units, those that are
left come once more from the last to the first: what lies before and behind that image is done, and only the units
that hung are taken apart, which costs a process for each image.
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
"""Units of the first wave, and of the others. Ray plans a wave as a whole, so the first is small and something comes
out early."""
_SHRINK_FACTOR: Final = 8
"""What the first pass leaves undone runs again in units this many times smaller."""
_MAX_PASSES: Final = ((1, False), (_SHRINK_FACTOR, False), (_SHRINK_FACTOR, True))
"""How much smaller the units are, and whether they come backwards."""
_FIRST_UNIT_ROWS: Final = 4
"""The first unit of a pass is so many times smaller: it shows early that all goes well."""
_MAX_LOST_UNITS, _MAX_LOST_SHARE = 10, 1 / 20
"""Units of the first pass that may be lost with their processes before the run stops: then it is not the images."""


def compute_missing_rows(
    engine: Engine,
    log: CommitLog,
    plan: Plan,
    missing: Callable[[], Iterable[RowRange]],
    *,
    waves: tuple[int, int] = _WAVES,
) -> Iterator[list[WriteResult]]:
    """Compute rows until none is missing; yields files once they are written.

    Args:
        engine: Prepared.
        log: Open.
        plan: Of the run.
        missing: Rows that are wanted and that nobody has computed yet; asked at the beginning of each pass.
        waves: Units of the first wave, and of the others.

    Raises:
        RunError: If the stages cannot go on.
    """
    size, later = waves
    for smaller, backwards in _MAX_PASSES:
        if backwards and not engine.has_stalled:
            continue
        resized = True
        while resized:
            resized, rows = False, max(1, engine.unit_rows // smaller)
            first = max(1, rows // _FIRST_UNIT_ROWS)
            units = cut_into_units(log.store, all_plan_parts(plan, log.state), missing(), rows, first_rows=first)
            if backwards:
                units = iter(list(units)[::-1])
            while not resized and (wave := list(itertools.islice(units, size))):
                suspects = smaller > 1 and len(log.state.accepted) > 0
                max_lost = len(wave) if suspects else max(_MAX_LOST_UNITS, int(len(wave) * _MAX_LOST_SHARE))
                yield from engine.run_units(wave, log.epoch, max_lost_units=max_lost)
                size = later
                if engine.time_is_up:
                    return
                resized = engine.rebalance()  # then what is left of the wave is cut anew
    if isolated := list(cut_into_units(log.store, all_plan_parts(plan, log.state), missing(), 1)):
        yield from engine.run_isolated(isolated, log.epoch)
