"""Progress display of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status

from cvbatch.output.log_records import RunState
from cvbatch.results.console import format_duration
from cvbatch.system.standard_streams import get_terminal_stream

_LINE_EVERY_SECONDS: Final = 15.0
_SHOW_WAIT_AFTER_SECONDS: Final = 3.0
_MINUTE: Final = 60.0
_NEXT_IMAGES: Final = "working on the next images"


class RunProgress(NamedTuple):
    """Progress of a run, in rows."""

    done: int
    planned: int
    errors: int

    @staticmethod
    def from_state(state: RunState) -> RunProgress:
        """Progress according to the state of the log."""
        return RunProgress(len(state.accepted), state.planned, state.errors.total())


class TerminalProgress:
    """A `RunObserver` with a progress bar on a terminal, or a plain line every 15 s; also shows what the run waits for.

    Args:
        quiet: Show nothing, because standard output has JSON.
        console: Where to show the progress; by default on standard error.
        tick_seconds: Seconds between updates of the waiting time.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None, tick_seconds: float = 1.0) -> None:
        self.console = console or Console(file=get_terminal_stream(), quiet=quiet)
        self._tick_seconds = tick_seconds
        self._bar: Bar | None = None
        self._status: Status | None = None
        self._task = TaskID(0)
        self._first_commit: tuple[int, float] | None = None
        self._progress: RunProgress | None = None
        self._last_line = self._since = time.monotonic()
        self._waits_for = ""
        self._lock, self._stopped = threading.RLock(), threading.Event()
        self._ticker = threading.Thread(target=self._redraw_until_stopped, name="progress", daemon=True)

    def __enter__(self) -> TerminalProgress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._lock:
            for display in (self._status, self._bar):
                if display is not None:
                    display.stop()

    def on_phase(self, description: str) -> None:
        """Record what the run waits for; a terminal shows it at once, the waiting time only if it is long."""
        with self._lock:
            self._waits_for, self._since = description, time.monotonic()
            if self.console.is_terminal and self._bar is None and not self._stopped.is_set():
                if self._status is None:
                    self._status = self.console.status(description)
                    self._status.start()
                self._status.update(description)

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
            self._last_line = self._since = time.monotonic()
            if not self.console.is_terminal:
                self.console.print(f"{progress.planned:,} images planned, {progress.done:,} done", highlight=False)
                return
            columns = (
                BarColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
                TextColumn("{task.fields[rate]} images/s"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[errors]} errors"),
                TextColumn("{task.fields[waits]}"),
            )
            for display in (self._status, self._bar):
                if display is not None:
                    display.stop()
            self._bar = Bar(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(
                "", total=progress.planned, completed=progress.done, rate="…", errors=progress.errors, waits=""
            )
            self._bar.start()

    def estimate_now(self, progress: RunProgress) -> None:
        """See `on_committed`."""
        with self._lock:
            now, done, remaining = time.monotonic(), progress.done, progress.planned - progress.done
            self._progress, self._waits_for, self._since = progress, _NEXT_IMAGES, now
            if self._first_commit is None:
                self._first_commit = (done, now)
            first_done, first_time = self._first_commit
            # the time before the first commit includes the start of Ray and of the models, so it does not count
            rate = (done - first_done) / (now - first_time) if done > first_done else None
            if self._bar is not None:
                rate_text = "…" if rate is None else f"{rate:.1f}"
                self._bar.update(self._task, completed=done, rate=rate_text, errors=progress.errors, waits="")
            elif rate is not None and now - self._last_line >= _LINE_EVERY_SECONDS and remaining > 0:
                self._last_line = now
                self.console.print(
                    f"{done:,} of {progress.planned:,} rows, {rate:.1f} images/s, "
                    f"{format_duration(remaining / rate)} left, {progress.errors:,} errors",
                    highlight=False,
                )

    def redraw_at(self, now: float) -> None:
        """Show what the run waits for, if it has waited long.

        Args:
            now: Time of the monotonic clock, in seconds.
        """
        with self._lock:
            waited = now - self._since
            if not self._waits_for or self._stopped.is_set():
                return
            text = f"{self._waits_for}, {format_duration(round(waited)) if waited >= _MINUTE else f'{waited:.0f} s'}"
            if self._bar is not None:
                self._bar.update(self._task, waits=text if waited >= _SHOW_WAIT_AFTER_SECONDS else "")
            elif self._status is not None:
                self._status.update(text if waited >= _SHOW_WAIT_AFTER_SECONDS else self._waits_for)
            elif now - max(self._last_line, self._since) >= _LINE_EVERY_SECONDS:
                self._last_line = now
                progress = self._progress
                done = f"{progress.done:,} of {progress.planned:,} rows; " if progress is not None else ""
                self.console.print(done + text, highlight=False)

    def _redraw_until_stopped(self) -> None:
        while not self._stopped.wait(self._tick_seconds):
            self.redraw_at(time.monotonic())
