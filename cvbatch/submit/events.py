"""Lines in a job's log that programs can read: the progress of a run and its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, Final

from cvbatch.errors import CorruptionError
from cvbatch.output.log_records import RunState
from cvbatch.results.progress_screens import RunProgress
from cvbatch.system.formats import FORMAT, RecordFormat

_EVENT_MARK: Final = "cvbatch"
_LINE: Final = RecordFormat("line of a job's log", dict[str, Any])
DOING, PLANNED, COMMITTED, FINISHED = "doing", "planned", "committed", "finished"


class EventLines:
    """An observer of a run that writes one line of JSON for each event.

    Args:
        out: Stream to write to.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def on_phase(self, description: str) -> None:
        """Write what the run waits for now."""
        self._write_event(DOING, {"what": description})

    def on_planned(self, state: RunState) -> None:
        """Write how many rows are planned."""
        self._write_event(PLANNED, RunProgress.from_state(state)._asdict())

    def on_committed(self, state: RunState) -> None:
        """Write how many rows are done."""
        self._write_event(COMMITTED, RunProgress.from_state(state)._asdict())

    def on_finished(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of the run."""
        self._write_event(FINISHED, {"summary": summary})

    def _write_event(self, event: str, content: Mapping[str, Any]) -> None:
        self._out.write(json.dumps({_EVENT_MARK: event, FORMAT: str(_LINE), **content}, default=str) + "\n")
        self._out.flush()


def parse_event(line: str) -> dict[str, Any] | None:
    """The event in a line of a log; None for any other line.

    Raises:
        OutputError: A newer version wrote the line, in a format that this version cannot read.
    """
    if not line.startswith(f'{{"{_EVENT_MARK}": '):
        return None
    try:
        return _LINE.decode_record(line, "the log")
    except CorruptionError:
        return None


def event_name(event: Mapping[str, Any]) -> str:
    """Name of an event: `DOING`, `PLANNED`, `COMMITTED` or `FINISHED`."""
    return str(event[_EVENT_MARK])
