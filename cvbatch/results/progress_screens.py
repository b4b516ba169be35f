"""Where the progress of a run is shown: a bar on a terminal, or plain lines."""

from __future__ import annotations

import time
from typing import Final, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status

from cvbatch.output.log_records import RunState
from cvbatch.results.console import format_duration

_LINE_EVERY_SECONDS: Final = 15.0
SHOW_WAIT_AFTER_SECONDS: Final = 3.0
"""A shorter wait is not shown as one."""
_MINUTE: Final = 60.0


class RunProgress(NamedTuple):
    """Progress of a run, in rows."""

    done: int
    planned: int
    errors: int

    @staticmethod
    def from_state(state: RunState) -> RunProgress:
        """Progress according to the state of the log."""
        return RunProgress(len(state.accepted), state.planned, state.errors.total())


class Wait(NamedTuple):
    """What a run waits for."""

    description: str
    since: float
    """Time of the monotonic clock, in seconds."""
    now: float

    @property
    def seconds(self) -> float:
        """How long it has waited."""
        return self.now - self.since

    @property
    def text(self) -> str:
        """What it waits for, and how long."""
        waited = self.seconds
        return f"{self.description}, {format_duration(round(waited)) if waited >= _MINUTE else f'{waited:.0f} s'}"


class Screen(Protocol):
    """Shows the progress of one run after another."""

    def show_phase(self, description: str) -> None:
        """The run begins to wait for something."""

    def start_bar(self, progress: RunProgress) -> None:
        """The number of rows is known; a second call starts a new bar."""

    def show_progress(self, progress: RunProgress, rate: float | None) -> None:
        """Rows were committed; `rate` is in images per second, None as long as it is not known."""

    def show_wait(self, wait: Wait, progress: RunProgress | None) -> None:
        """The run still waits; called every second."""

    def stop(self) -> None:
        """Nothing is shown any more."""


class TerminalScreen:
    """A bar, and before it a line that says what the run waits for.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.status: Status | None = None
        self.bar: Bar | None = None
        self._task = TaskID(0)

    def show_phase(self, description: str) -> None:
        """See `Screen`."""
        if self.bar is None:
            if self.status is None:
                self.status = self._console.status(description)
                self.status.start()
            self.status.update(description)

    def start_bar(self, progress: RunProgress) -> None:
        """See `Screen`."""
        columns = (
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]} errors"),
            TextColumn("{task.fields[waits]}"),
        )
        self.stop()
        self.bar = Bar(*columns, console=self._console, transient=True)
        self._task = self.bar.add_task(
            "", total=progress.planned, completed=progress.done, rate="…", errors=progress.errors, waits=""
        )
        self.bar.start()

    def show_progress(self, progress: RunProgress, rate: float | None) -> None:
        """See `Screen`."""
        if self.bar is not None:
            rate_text = "…" if rate is None else f"{rate:.1f}"
            self.bar.update(self._task, completed=progress.done, rate=rate_text, errors=progress.errors, waits="")

    def show_wait(self, wait: Wait, progress: RunProgress | None) -> None:
        """See `Screen`."""
        is_long = wait.seconds >= SHOW_WAIT_AFTER_SECONDS
        if self.bar is not None:
            self.bar.update(self._task, waits=wait.text if is_long else "")
        elif self.status is not None:
            self.status.update(wait.text if is_long else wait.description)

    def stop(self) -> None:
        """See `Screen`."""
        for display in (self.status, self.bar):
            if display is not None:
                display.stop()


class LineScreen:
    """A plain line every 15 seconds, as in a log.

    Args:
        console: Where the lines go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_line = time.monotonic()

    def show_phase(self, description: str) -> None:
        """See `Screen`."""

    def start_bar(self, progress: RunProgress) -> None:
        """See `Screen`."""
        self._last_line = time.monotonic()
        self._print(f"{progress.planned:,} images planned, {progress.done:,} done")

    def show_progress(self, progress: RunProgress, rate: float | None) -> None:
        """See `Screen`."""
        now, remaining = time.monotonic(), progress.planned - progress.done
        if rate is not None and now - self._last_line >= _LINE_EVERY_SECONDS and remaining > 0:
            self._last_line = now
            self._print(
                f"{progress.done:,} of {progress.planned:,} rows, {rate:.1f} images/s, "
                f"{format_duration(remaining / rate)} left, {progress.errors:,} errors"
            )

    def show_wait(self, wait: Wait, progress: RunProgress | None) -> None:
        """See `Screen`."""
        if wait.now - max(self._last_line, wait.since) >= _LINE_EVERY_SECONDS:
            self._last_line = wait.now
            done = f"{progress.done:,} of {progress.planned:,} rows; " if progress is not None else ""
            self._print(done + wait.text)

    def stop(self) -> None:
        """See `Screen`."""

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False)
