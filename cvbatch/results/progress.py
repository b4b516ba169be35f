"""Progress display of a run: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Final, TypeVar

from rich.console import Console

from cvbatch.output.log_records import RunState
from cvbatch.results.notebook_screen import NotebookScreen, is_notebook
from cvbatch.results.progress_screens import LineScreen, RunProgress, Screen, TerminalScreen, Wait
from cvbatch.system.standard_streams import get_terminal_stream

Self = TypeVar("Self", bound="ShownProgress")
_NEXT_IMAGES: Final = "working on the next images"


class ShownProgress:
    """A `RunObserver` that shows the progress, and what the run waits for.

    Args:
        screen: Where to show it.
        tick_seconds: Seconds between updates of the waiting time.
    """

    def __init__(self, screen: Screen, tick_seconds: float = 1.0) -> None:
        self.screen = screen
        self._tick_seconds = tick_seconds
        self._first_commit: tuple[int, float] | None = None
        self._progress: RunProgress | None = None
        self._since = time.monotonic()
        self._waits_for = ""
        self._lock, self._stopped = threading.RLock(), threading.Event()
        self._ticker = threading.Thread(target=self._redraw_until_stopped, name="progress", daemon=True)

    def __enter__(self: Self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._lock:
            self.screen.stop()

    def on_phase(self, description: str) -> None:
        """Record what the run waits for; a terminal shows it at once, the waiting time only if it is long."""
        with self._lock:
            self._waits_for, self._since = description, time.monotonic()
            if not self._stopped.is_set():
                self.screen.show_phase(description)

    def on_planned(self, state: RunState) -> None:
        """Show the number of planned rows."""
        self.start_clock(RunProgress.from_state(state))

    def on_committed(self, state: RunState) -> None:
        """Show the number of committed rows."""
        self.estimate_now(RunProgress.from_state(state))

    def start_clock(self, progress: RunProgress) -> None:
        """See `on_planned`; a second call starts a new bar."""
        with self._lock:
            self._progress, self._first_commit = progress, None
            self._since = time.monotonic()
            self.screen.start_bar(progress)

    def estimate_now(self, progress: RunProgress) -> None:
        """See `on_committed`."""
        with self._lock:
            now, done = time.monotonic(), progress.done
            self._progress, self._waits_for, self._since = progress, _NEXT_IMAGES, now
            if self._first_commit is None:
                self._first_commit = (done, now)
            first_done, first_time = self._first_commit
            # the time before the first commit includes the start of Ray and of the models, so it does not count
            rate = (done - first_done) / (now - first_time) if done > first_done else None
            self.screen.show_progress(progress, rate)

    def redraw_at(self, now: float) -> None:
        """Show what the run waits for, if it has waited long.

        Args:
            now: Time of the monotonic clock, in seconds.
        """
        with self._lock:
            if self._waits_for and not self._stopped.is_set():
                self.screen.show_wait(Wait(self._waits_for, self._since, now), self._progress)

    def _redraw_until_stopped(self) -> None:
        while not self._stopped.wait(self._tick_seconds):
            self.redraw_at(time.monotonic())


class TerminalProgress(ShownProgress):
    """Progress with a bar on a terminal, or a plain line every 15 s.

    Args:
        quiet: Show nothing, because standard output has JSON.
        console: Where to show the progress; by default on standard error.
        tick_seconds: Seconds between updates of the waiting time.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None, tick_seconds: float = 1.0) -> None:
        self.console = console or Console(file=get_terminal_stream(), quiet=quiet, force_jupyter=False)
        screen = TerminalScreen(self.console) if self.console.is_terminal else LineScreen(self.console)
        super().__init__(screen, tick_seconds)


def fitting_progress(*, quiet: bool = False) -> ShownProgress:
    """The progress display that fits where this code runs.

    Args:
        quiet: Show nothing.
    """
    if is_notebook() and not quiet:
        return ShownProgress(NotebookScreen())
    return TerminalProgress(quiet=quiet)
