"""An independent reader: folds the log with Python's sets, and compares everything else with the result."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.output.actors import Objects

Json = Mapping[str, Any]


def rows_of(ranges: Iterable[Iterable[int]]) -> set[int]:
    """The rows of ranges that must not be empty or overlap."""
    rows = [row for low, high in ranges for row in range(low, high)]
    assert len(rows) == len(set(rows)), "a row is there twice"
    return set(rows)


def epoch_in(path: str) -> int:
    return int(path.removeprefix("data/e").partition("-")[0])


@dataclass
class LogState:
    """State of a run after a number of records."""

    planned: int
    epoch: int = 0
    final: bool = False
    files: dict[str, Json] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    parts: list[Json] = field(default_factory=list)
    changed: list[Json] = field(default_factory=list)
    complete: bool | None = None
    holder: Json | None = None
    opened: list[float] = field(default_factory=list)
    rows_before: int = 0
    recent: list[list[float]] = field(default_factory=list)

    @property
    def rows(self) -> set[int]:
        return rows_of(pair for file in self.files.values() for pair in file["ranges"])

    def after(self, record: Json) -> LogState:
        """The state after one more record; fails if the protocol forbids the record."""
        state = replace(self, **{name: copy.copy(value) for name, value in vars(self).items()})
        if record["type"] == "open":
            assert record["epoch"] > self.epoch, "epochs rise"
            state.epoch, state.holder, state.rows_before = record["epoch"], record, len(self.rows)
            state.opened.append(record["time"])
        else:
            assert record["epoch"] == self.epoch, "a record of an older epoch follows a newer open"
            assert not self.final, "only open may follow final"
            getattr(state, f"_{record['type']}")(record)
        state.final = record["type"] == "final"
        assert state.rows <= set(range(state.planned)), "a row is not planned"
        return state

    def _commit(self, record: Json) -> None:
        added = self._add(record["files"], record["epoch"])
        self.stale -= added
        self.recent.append([record["time"], len(added)])

    def _replace(self, record: Json) -> None:
        gone = rows_of(pair for path in record["remove"] for pair in self.files.pop(path)["ranges"])
        assert self._add(record["add"], record["epoch"]) == gone, "a replacement has other rows"
        self.stale -= rows_of(record["computed"])
        self.recent.append([record["time"], len(rows_of(record["computed"]))])

    def _add(self, files: Iterable[Json], epoch: int) -> set[int]:
        before = self.rows
        for file in files:
            assert file["path"] not in self.files, "a file is accepted twice"
            assert epoch_in(file["path"]) == epoch, "a file of another epoch is accepted"
            self.files[file["path"]] = file
        return self.rows - before

    def _extend(self, record: Json) -> None:
        for part in record["parts"]:
            assert part["first_row_id"] == self.planned
            self.planned += part["rows"]
        self.parts += record["parts"]
        self.changed += record["changed"]
        self.stale |= {row for part in record["changed"] for row in rows_of(part["ranges"])}
        self.complete = record["complete"]

    def _removed(self, record: Json) -> None:
        self.removed -= rows_of(record["back"])
        assert not self.removed & rows_of(record["ranges"])
        self.removed |= rows_of(record["ranges"])

    def _moved(self, record: Json) -> None:
        assert rows_of(record["part"]["ranges"]) <= set(range(self.planned)), "rows that are not planned have moved"
        self.changed.append(record["part"])

    def _final(self, record: Json) -> None:
        assert self.rows == set(range(self.planned)) == set(range(record["rows"])), "rows are missing at the end"
        assert not self.stale, "rows of changed images were not computed again"


class Auditor:
    """Checks all objects of a store, any number of times.

    Args:
        objects: The store.
        planned: Number of rows in the original plan.
    """

    def __init__(self, objects: Objects, planned: int) -> None:
        self._objects = objects
        self.states = [LogState(planned)]
        """States, by number of records."""
        self.records: list[Json] = []
        self.cleared = -1
        """Number of the newest `open` whose driver has deleted the mark."""
        self._seen: dict[str, bytes] = {}

    @property
    def now(self) -> LogState:
        return self.states[-1]

    @property
    def mark(self) -> int | None:
        """Number of the `final` that `_SUCCESS` names."""
        content = self._objects.content.get("_SUCCESS")
        return None if content is None else _number(json.loads(content)["manifest"])

    def check(self) -> None:
        for name in self._unseen("_cvbatch/log"):
            assert _number(name) == len(self.records), "the log has a hole"
            record = json.loads(self._objects.content[name])
            assert record["nonce"] not in [earlier["nonce"] for earlier in self.records]
            self.states.append(self.now.after(record))
            self.records.append(record)
        assert len(self._objects.list_sizes("_cvbatch/log")) == len(self.records), "a record is gone"
        data = self._objects.list_sizes("data")
        assert all(data.get(path) == file["size"] for path, file in self.now.files.items()), "an accepted file is gone"
        for name in self._unseen("_cvbatch"):
            self._check_manifest(_number(name), json.loads(self._objects.content[name]))
        for name in self._unseen("_cvbatch/snapshots"):
            self._check_snapshot(_number(name), json.loads(self._objects.content[name]))
        if self.mark is not None:
            self._check_mark(self.mark)

    def driver_opened(self, epoch: int) -> None:
        """Note that a driver holds the run and has deleted the mark."""
        opens = [seq for seq, record in enumerate(self.records) if (record["type"], record["epoch"]) == ("open", epoch)]
        self.cleared = max(self.cleared, *opens)

    def _check_manifest(self, final: int, content: Json) -> None:
        state = self.states[final + 1]
        assert state.final
        assert content["final"] == final
        assert {file["path"]: file for file in content["files"]} == state.files
        assert [file["ranges"] for file in content["files"]] == sorted(file["ranges"] for file in content["files"])
        assert rows_of(content["removed"]) == state.removed

    def _check_snapshot(self, count: int, content: Json) -> None:
        state = self.states[count]
        rows = {name: rows_of(content[name]) for name in ("stale", "removed")}
        expected = {
            "format": "1.1",
            "plan_file": None,
            **vars(state),
            "last": self.records[count - 1],
            "next_seq": count,
            "files": list(state.files.values()),
        }
        del expected["final"]
        assert {**content, **rows} == expected

    def _check_mark(self, final: int) -> None:
        """Check the mark; it may name an older `final` only if its writer died or lost its connection."""
        assert f"_cvbatch/manifest-{final:010d}.json" in self._objects.content
        author = self._objects.authors["_SUCCESS"]
        assert self.cleared < final or author is None or not author.orderly, "a mark was left behind"
        if final == len(self.records) - 1:
            state, born = self.now, self._objects.born
            ended = born[f"_cvbatch/log/{final:010d}.json"]
            strays = [path for path in born if path.startswith("data/e") and path not in state.files]
            strays = [path for path in strays if epoch_in(path) <= state.epoch and born[path] < ended]
            assert not self._objects.content.keys() & strays, "a reader of the folder would read stray files"

    def _unseen(self, folder: str) -> list[str]:
        """Names of new objects; the others must not have changed."""
        names = []
        for name in self._objects.list_sizes(folder):
            content = self._objects.content[name]
            if name not in self._seen:
                names.append(name)
            assert self._seen.setdefault(name, content) == content, f"{name} has changed"
        return names


def _number(name: str) -> int:
    return int(name.removesuffix(".json")[-10:])
