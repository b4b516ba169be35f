"""Lines in a job's log that a program can read: how a run goes on, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, Final

from cvbatch.errors import CorruptionError
from cvbatch.output.log_records import State
from cvbatch.results.progress import Progress
from cvbatch.system.formats import FORMAT, Format

_MARK: Final = "cvbatch"
_LINE: Final = Format("line of a job's log", dict[str, Any])
DOING, PLANNED, COMMITTED, FINISHED = "doing", "planned", "committed", "finished"


class EventLines:
    """A watcher that writes one line of JSON for each thing that happens.

    Args:
        out: Where to.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def doing(self, what: str) -> None:
        """Say what is waited for."""
        self._write(DOING, {"what": what})

    def planned(self, state: State) -> None:
        """Say how much there is to do."""
        self._write(PLANNED, Progress.of(state)._asdict())

    def committed(self, state: State) -> None:
        """Say what is done."""
        self._write(COMMITTED, Progress.of(state)._asdict())

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Say what the run amounts to."""
        self._write(FINISHED, {"summary": summary})

    def _write(self, event: str, content: Mapping[str, Any]) -> None:
        self._out.write(json.dumps({_MARK: event, FORMAT: str(_LINE), **content}, default=str) + "\n")
        self._out.flush()


def parse(line: str) -> dict[str, Any] | None:
    """The event that a line of a log is; None for any other line.

    Raises:
        OutputError: If a newer version wrote it, in a format that this one does not read.
    """
    if not line.startswith(f'{{"{_MARK}": '):
        return None
    try:
        return _LINE.decode(line, "the log")
    except CorruptionError:
        return None


def name_of(event: Mapping[str, Any]) -> str:
    """What happened."""
    return str(event[_MARK])
