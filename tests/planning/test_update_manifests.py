"""An update of a manifest: its rows are known by their position, and a line is changed when anything in it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import Plan, all_plan_parts, make_plan
from cvbatch.planning.update import update_plan
from cvbatch.sources import open_source
from tests.samples import commit, job, spec, started

LINES: Final = [{"uri": name, "plate": index, "tags": ["t", name]} for index, name in enumerate("abacad")]


class Run:
    """A finished run over a manifest whose images are mostly not there."""

    def __init__(self, folder: Path, name: str = "m.jsonl") -> None:
        self.manifest = folder / name
        (folder / "d").write_bytes(b"an image")
        self.write(LINES)
        self.store = LocalStore(str(folder / "out"))
        self.plan: Plan = make_plan(self.store, self.job, [spec()], open_source(self.job.source))
        log = started(self.store, len(LINES))
        commit(log, 0, len(LINES))
        finish_run(log)

    @property
    def job(self) -> Any:
        return job(self.manifest, self.store.root)

    def write(self, lines: list[dict[str, Any]]) -> None:
        if self.manifest.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(lines), self.manifest)
        else:
            self.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def update(self, limit: int | None = None) -> CommitLog:
        log = started(self.store, len(LINES))
        update_plan(log, self.plan, open_source(self.job.source), limit)
        return log


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "4")
    return Run(tmp_path)


def changed(log: CommitLog) -> list[int]:
    return [row for low, high in log.state.stale for row in range(low, high)]


def test_the_same_lines_are_no_change(run: Run) -> None:
    run.write(LINES)
    log = run.update()
    assert log.state.last is not None
    assert log.state.last["type"] == "open"


@pytest.mark.parametrize(
    "change", [{"uri": "z"}, {"plate": 7}, {"plate": None}, {"tags": ["t"]}, {"tags": None}], ids=str
)
def test_a_changed_line_is_a_changed_row(run: Run, change: dict[str, Any]) -> None:
    run.write([*LINES[:2], {**LINES[2], **change}, *LINES[3:]])
    log = run.update()
    assert (changed(log), log.state.planned, len(log.state.removed)) == ([2], len(LINES), 0)
    [line] = read_plan_part(run.store, all_plan_parts(run.plan, log.state)[0]).to_pylist()
    assert line["row_id"] == 2
    assert (line["plate"], line["tags"]) == tuple({**LINES[2], **change}[name] for name in ("plate", "tags"))
    assert os.path.basename(line["image_uri"]) == change.get("uri", "a")


def test_an_image_that_was_rewritten_is_a_changed_row(run: Run) -> None:
    (run.manifest.parent / "d").write_bytes(b"another image")
    assert changed(run.update()) == [5]


def test_lines_added_at_the_end_are_new_rows(run: Run) -> None:
    run.write([*LINES, {**LINES[0], "plate": 8}, {**LINES[0], "plate": 9}])
    log = run.update()
    assert (changed(log), log.state.planned) == ([], 8)
    assert read_plan_part(run.store, log.state.parts[0])["plate"].to_pylist() == [8, 9]


def test_a_line_added_in_front_moves_all_others(run: Run) -> None:
    run.write([{**LINES[0], "plate": 9}, *LINES])
    log = run.update()
    assert (changed(log), log.state.planned) == ([0, 1, 2, 3, 4, 5], 7)


def test_a_limit_holds_for_lines_too(run: Run) -> None:
    run.write([*LINES, *LINES])
    assert run.update(limit=8).state.planned == 8
    assert run.update(limit=8).state.planned == 8
    log = run.update()
    assert (changed(log), log.state.planned) == ([], 12)


def test_fewer_lines_mean_removed_images(run: Run) -> None:
    run.write(LINES[:4])
    log = run.update()
    assert (changed(log), list(log.state.removed), log.state.planned) == ([], [(4, 6)], 6)
    finish_run(log)
    run.write([*LINES[:5], {**LINES[5], "plate": 9}])
    log = run.update()
    assert (changed(log), list(log.state.removed)) == ([5], [])


def test_columns_may_change_their_order(run: Run) -> None:
    run.write([dict(reversed(line.items())) for line in LINES])
    assert changed(run.update()) == []


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
@pytest.mark.parametrize(
    "lines",
    [
        [{key: value for key, value in line.items() if key != "plate"} for line in LINES],
        [{**line, "colour": "red"} for line in LINES],
        [{"number" if key == "plate" else key: value for key, value in line.items()} for line in LINES],
        [{**line, "plate": f"B-{line['plate']}"} for line in LINES],
    ],
    ids=["one fewer", "one more", "another name", "another type"],
)
def test_other_columns_are_refused(tmp_path: Path, name: str, lines: list[dict[str, Any]]) -> None:
    run = Run(tmp_path, name)
    run.write(lines)
    with pytest.raises(SourceError, match="the columns of the manifest have changed since it was planned") as caught:
        run.update()
    assert "\n" not in str(caught.value)
