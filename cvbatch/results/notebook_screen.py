"""Progress in a notebook: a bar below the cell, which stays there when the notebook is saved."""

from __future__ import annotations

import html
import sys
from importlib import import_module
from typing import Any

from cvbatch.results.console import format_duration
from cvbatch.results.progress_screens import SHOW_WAIT_AFTER_SECONDS, RunProgress, Wait


def is_notebook() -> bool:
    """Whether this code runs in a kernel whose front end shows HTML: Jupyter, or one that uses its protocol."""
    ipython = sys.modules.get("IPython")  # whoever runs in a kernel has it already
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class NotebookScreen:
    """A bar of HTML that is updated in its place; needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._progress: RunProgress | None = None
        self._rate: float | None = None

    def show_phase(self, description: str) -> None:
        """See `Screen`."""
        self._draw(description)

    def start_bar(self, progress: RunProgress) -> None:
        """See `Screen`."""
        self._progress, self._rate = progress, None
        self._draw()

    def show_progress(self, progress: RunProgress, rate: float | None) -> None:
        """See `Screen`."""
        self._progress, self._rate = progress, rate
        self._draw()

    def show_wait(self, wait: Wait, progress: RunProgress | None) -> None:
        """See `Screen`."""
        if wait.seconds >= SHOW_WAIT_AFTER_SECONDS:
            self._draw(wait.text)

    def stop(self) -> None:
        """See `Screen`: the last rows stay, without what was waited for."""
        if self._handle is not None:
            self._draw()

    def _draw(self, waits: str = "") -> None:
        text = "; ".join(part for part in (self._describe(), waits) if part)
        bar = ""
        if self._progress is not None:
            bar = f'<progress max="{self._progress.planned}" value="{self._progress.done}"></progress> '
        content = {"text/plain": text, "text/html": bar + html.escape(text)}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def _describe(self) -> str:
        progress, rate = self._progress, self._rate
        if progress is None:
            return ""
        text = f"{progress.done:,} of {progress.planned:,} rows, {progress.errors:,} errors"
        if rate is None:
            return text
        remaining = progress.planned - progress.done
        return f"{text}, {rate:.1f} images/s" + (f", {format_duration(remaining / rate)} left" if remaining else "")
