"""How far a run is, as a person sees it: a bar on a terminal, plain lines elsewhere."""

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
_WORTH_SAYING: Final = 3.0
_MINUTE: Final = 60.0
_NEXT_IMAGES: Final = "working on the next images"


class RunProgress(NamedTuple):
    """How far a run is, in rows."""

    done: int
    planned: int
    errors: int

    @staticmethod
    def from_state(state: RunState) -> RunProgress:
        """That which the log says."""
        return RunProgress(len(state.accepted), state.planned, state.errors.total())


class TerminalProgress:
    """A progress bar on a terminal, a plain line now and then elsewhere; it also tells what is being waited for.

    Args:
        quiet: Show nothing, because standard output carries JSON.
        console: Where to show it; by default on standard error.
        tick_seconds: How often it is looked whether something takes long.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None, tick_seconds: float = 1.0) -> None:
        self.console = console or Console(file=get_terminal_stream(), quiet=quiet)
        self._tick_seconds = tick_seconds
        self._bar: Bar | None = None
        self._status: Status | None = None
        self._task = TaskID(0)
        self._first_commit: tuple[int, float] | None = None
        self._now: RunProgress | None = None
        self._last_line = self._since = time.monotonic()
        self._waits_for = ""
        self._lock, self._over = threading.RLock(), threading.Event()
        self._ticker = threading.Thread(target=self._redraw_until_stopped, name="progress", daemon=True)

    def __enter__(self) -> TerminalProgress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            for each in (self._status, self._bar):
                if each is not None:
                    each.stop()

    def on_phase(self, what: str) -> None:
        """Take note of what is waited for now; it is shown if it takes long."""
        with self._lock:
            self._waits_for, self._since = what, time.monotonic()
            if self.console.is_terminal and self._bar is None and not self._over.is_set():
                if self._status is None:
                    self._status = self.console.status(what)
                    self._status.start()
                self._status.update(what)

    def on_planned(self, state: RunState) -> None:
        """Show how much there is to do."""
        self.start_clock(RunProgress.from_state(state))

    def on_committed(self, state: RunState) -> None:
        """Show what is done."""
        self.estimate_now(RunProgress.from_state(state))

    def start_clock(self, now: RunProgress) -> None:
        """See `on_planned`; a second call begins anew."""
        with self._lock:
            self._now, self._first_commit = now, None
            self._last_line = self._since = time.monotonic()
            if not self.console.is_terminal:
                self.console.print(f"{now.planned:,} images planned, {now.done:,} done", highlight=False)
                return
            columns = (
                BarColumn(),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
                TextColumn("{task.fields[rate]} images/s"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[errors]} errors"),
                TextColumn("{task.fields[waits]}"),
            )
            for each in (self._status, self._bar):
                if each is not None:
                    each.stop()
            self._bar = Bar(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task(
                "", total=now.planned, completed=now.done, rate="…", errors=now.errors, waits=""
            )
            self._bar.start()

    def estimate_now(self, now: RunProgress) -> None:
        """See `on_committed`."""
        with self._lock:
            at = time.monotonic()
            self._now, self._waits_for, self._since = now, _NEXT_IMAGES, at
            if self._first_commit is None:
                self._first_commit = (now.done, at)
            rows, since = self._first_commit
            # the first commit comes with the start of Ray and of the models, which says nothing of the rate
            rate = (now.done - rows) / (at - since) if now.done > rows else None
            if self._bar is not None:
                shown = "…" if rate is None else f"{rate:.1f}"
                self._bar.update(self._task, completed=now.done, rate=shown, errors=now.errors, waits="")
            elif rate is not None and at - self._last_line >= _LINE_EVERY_SECONDS and now.done < now.planned:
                self._last_line = at
                self.console.print(
                    f"{now.done:,} of {now.planned:,} rows, {rate:.1f} images/s, "
                    f"{format_duration((now.planned - now.done) / rate)} left, {now.errors:,} errors",
                    highlight=False,
                )

    def redraw_at(self, at: float) -> None:
        """Show what is waited for, if it has taken long.

        Args:
            at: The time, by the monotonic clock.
        """
        with self._lock:
            waited = at - self._since
            if not self._waits_for or self._over.is_set():
                return
            text = f"{self._waits_for}, {format_duration(round(waited)) if waited >= _MINUTE else f'{waited:.0f} s'}"
            if self._bar is not None:
                self._bar.update(self._task, waits=text if waited >= _WORTH_SAYING else "")
            elif self._status is not None:
                self._status.update(text if waited >= _WORTH_SAYING else self._waits_for)
            elif at - max(self._last_line, self._since) >= _LINE_EVERY_SECONDS:
                self._last_line = at
                done = f"{self._now.done:,} of {self._now.planned:,} rows; " if self._now is not None else ""
                self.console.print(done + text, highlight=False)

    def _redraw_until_stopped(self) -> None:
        while not self._over.wait(self._tick_seconds):
            self.redraw_at(time.monotonic())
