"""Lines in a job's log that a program can read: how a run goes on, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, Final

from cvbatch.errors import CorruptionError
from cvbatch.output.log_records import RunState
from cvbatch.results.progress import RunProgress
from cvbatch.system.formats import FORMAT, RecordFormat

_EVENT_MARK: Final = "cvbatch"
_LINE: Final = RecordFormat("line of a job's log", dict[str, Any])
DOING, PLANNED, COMMITTED, FINISHED = "doing", "planned", "committed", "finished"


class EventLines:
    """A watcher that writes one line of JSON for each thing that happens.

    Args:
        out: Where to.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def on_phase(self, what: str) -> None:
        """Say what is waited for."""
        self._write_event(DOING, {"what": what})

    def on_planned(self, state: RunState) -> None:
        """Say how much there is to do."""
        self._write_event(PLANNED, RunProgress.from_state(state)._asdict())

    def on_committed(self, state: RunState) -> None:
        """Say what is done."""
        self._write_event(COMMITTED, RunProgress.from_state(state)._asdict())

    def on_finished(self, summary: Mapping[str, Any]) -> None:
        """Say what the run amounts to."""
        self._write_event(FINISHED, {"summary": summary})

    def _write_event(self, event: str, content: Mapping[str, Any]) -> None:
        self._out.write(json.dumps({_EVENT_MARK: event, FORMAT: str(_LINE), **content}, default=str) + "\n")
        self._out.flush()


def parse_event(line: str) -> dict[str, Any] | None:
    """The event that a line of a log is; None for any other line.

    Raises:
        OutputError: If a newer version wrote it, in a format that this one does not read.
    """
    if not line.startswith(f'{{"{_EVENT_MARK}": '):
        return None
    try:
        return _LINE.decode_record(line, "the log")
    except CorruptionError:
        return None


def event_name(event: Mapping[str, Any]) -> str:
    """What happened."""
    return str(event[_EVENT_MARK])
