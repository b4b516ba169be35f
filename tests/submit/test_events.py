"""Lines of a log that a program reads."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cvbatch.errors import OutputError
from cvbatch.results.progress_screens import RunProgress
from cvbatch.submit.events import COMMITTED, FINISHED, PLANNED, EventLines, event_name, parse_event
from tests.samples import commit, planned, started


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 10)
    log, out = started(store, plan.rows), io.StringIO()
    lines = EventLines(out)
    lines.on_planned(log.state)
    commit(log, 0, 6, failed=[1, 2])
    lines.on_committed(log.state)
    lines.on_finished({"rows": 10, "output": tmp_path})
    events = [parse_event(line) for line in out.getvalue().splitlines()]
    assert [event and event_name(event) for event in events] == [PLANNED, COMMITTED, FINISHED]
    first, second, last = (event or {} for event in events)
    assert RunProgress(first["done"], first["planned"], first["errors"]) == RunProgress(0, 10, 0)
    assert RunProgress(second["done"], second["planned"], second["errors"]) == RunProgress(6, 10, 2)
    assert last["summary"] == {"rows": 10, "output": str(tmp_path)}


def test_a_line_of_a_newer_version_is_refused() -> None:
    assert parse_event('{"cvbatch": "doing", "format": "1.7", "what": "waiting", "more": 1}') is not None
    with pytest.raises(OutputError, match=r"written with format 2\.0, and this cvbatch reads up to 1\.0"):
        parse_event('{"cvbatch": "doing", "format": "2.0"}')


@pytest.mark.parametrize(
    "line", ["", "cvbatch: no images", '{"cvbatch": "plann', '{"other": 1}', '  {"cvbatch": "planned"}']
)
def test_other_lines_are_none(line: str) -> None:
    assert parse_event(line) is None
