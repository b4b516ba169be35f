"""A process that hangs ends itself: Ray does not end one that gives no answer any more."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HANG_FACTOR: Final = 1.25
"""Where nothing else moves, the driver gives the wave up first. Where something does, Ray starts the process anew, and
gives it the same unit once more."""
STALL_GRACE_FACTOR: Final = 1.5
"""What hangs may outlive the wave that was given up because of it, and holds what the next one needs: times
`stalled_after`, the next wave's patience."""
_LEAST_SECONDS, _MOST_SECONDS = 0.001, 1e9
"""What the timer takes."""
_STDERR: Final = 2


class Watchdog:
    """Ends this process once a piece of work takes too long in it; that it waits for earlier ones does not count.

    Ray 2.60 asks an actor to end, even when it is killed, and one that hangs does not hear it: it would keep its share
    of the cluster and its GPU. The timer of `faulthandler` is a thread in C, which needs no interpreter; it leaves in
    Ray's log file of the process where each thread stood.

    Args:
        stalled_after: Seconds without any progress after which the driver gives a wave up.
    """

    def __init__(self, stalled_after: float) -> None:
        self._seconds = _HANG_FACTOR * stalled_after
        self._lock = threading.Lock()
        self._began: dict[object, float] = {}

    @contextmanager
    def watch_unit(self) -> Iterator[None]:
        """A piece of work; several may be under way at once, and wait for each other in their order."""
        piece = object()
        with self._lock:
            self._began[piece] = time.monotonic()
            self._arm_timer()
        try:
            yield
        finally:
            with self._lock:
                self._end_process(piece)
                self._arm_timer()

    def _end_process(self, piece: object) -> None:
        pieces = list(self._began)
        for later in pieces[pieces.index(piece) + 1 :]:
            self._began[later] = time.monotonic()
        del self._began[piece]

    def _arm_timer(self) -> None:
        if not self._began:
            faulthandler.cancel_dump_traceback_later()
            return
        left = min(self._began.values()) + self._seconds - time.monotonic()
        left = min(max(left, _LEAST_SECONDS), _MOST_SECONDS)
        faulthandler.dump_traceback_later(left, exit=True, file=_STDERR)
