"""End a process that hangs: Ray does not end a process that no longer answers."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HANG_FACTOR: Final = 1.25
"""Times `stalled_after`. If no unit makes progress, the driver gives up the wave first; otherwise Ray restarts the
process and gives it the same unit once more."""
STALL_GRACE_FACTOR: Final = 1.5
"""Times `stalled_after`, for the wave after a stalled one: a hung process may outlive its wave, and then holds
resources that the next wave needs."""
_LEAST_SECONDS, _MOST_SECONDS = 0.001, 1e9
"""Range that the timer of `faulthandler` accepts."""
_STDERR: Final = 2


class Watchdog:
    """Ends this process once a unit takes too long; waiting for earlier units does not count.

    Ray 2.60 ends an actor by a request, even with `kill`, and a hung actor does not handle it: it would keep its CPUs
    and its GPU. The timer of `faulthandler` is a C thread that does not need the interpreter; it writes the traceback
    of each thread to Ray's log file of the process.

    Args:
        stalled_after: Seconds without progress after which the driver gives up a wave.
    """

    def __init__(self, stalled_after: float) -> None:
        self._seconds = _HANG_FACTOR * stalled_after
        self._lock = threading.Lock()
        self._start_times: dict[object, float] = {}

    @contextmanager
    def watch_unit(self) -> Iterator[None]:
        """Time the unit inside the block; several blocks may overlap, and later ones wait for earlier ones."""
        unit = object()
        with self._lock:
            self._start_times[unit] = time.monotonic()
            self._arm_timer()
        try:
            yield
        finally:
            with self._lock:
                self._end_unit(unit)
                self._arm_timer()

    def _end_unit(self, unit: object) -> None:
        units = list(self._start_times)
        for later_unit in units[units.index(unit) + 1 :]:
            self._start_times[later_unit] = time.monotonic()
        del self._start_times[unit]

    def _arm_timer(self) -> None:
        if not self._start_times:
            faulthandler.cancel_dump_traceback_later()
            return
        remaining_seconds = min(self._start_times.values()) + self._seconds - time.monotonic()
        remaining_seconds = min(max(remaining_seconds, _LEAST_SECONDS), _MOST_SECONDS)
        faulthandler.dump_traceback_later(remaining_seconds, exit=True, file=_STDERR)
