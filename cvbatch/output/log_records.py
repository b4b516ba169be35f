"""The records of the commit log and what they add up to.

`State.apply` is a pure fold: the same records give the same state on every machine. It refuses what the
protocol forbids, so a log that can be read is a log that is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cvbatch.errors import CorruptionError
from cvbatch.output.row_ranges import Range, RowRanges

Record = Mapping[str, Any]
RECENT_SECONDS: Final = 300.0
_DATA_NAME = re.compile(r"data/e(\d+)-[0-9a-f]{32}\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of the predictions, as the log knows it."""

    path: str
    size: int
    ranges: tuple[Range, ...]
    errors: Mapping[str, int] = field(default_factory=dict)
    """Error rows in it by `error_type`; empty in a file of good rows."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(high - low for low, high in self.ranges)

    @property
    def epoch(self) -> int | None:
        """The epoch of the start that wrote it."""
        return epoch_of(self.path)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a record or a manifest."""
        failed = sum(self.errors.values())
        return {
            "path": self.path,
            "size": self.size,
            "ranges": [list(pair) for pair in self.ranges],
            "statuses": {"ok": self.rows - failed, "error": failed},
            "errors": dict(self.errors),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> DataFile:
        """The inverse of `to_json`."""
        ranges = tuple((low, high) for low, high in data["ranges"])
        return DataFile(data["path"], data["size"], ranges, data.get("errors", {}))


def epoch_of(path: str) -> int | None:
    """Epoch in a data file's name `data/e<epoch>-<uuid>.parquet`; None for a name that no run gave."""
    named = _DATA_NAME.fullmatch(path)
    return int(named[1]) if named else None


@dataclass(slots=True)
class State:
    """What the log says up to some record."""

    planned: int
    """Rows of the plan, with its extensions."""
    epoch: int = 0
    next_seq: int = 0
    last: Record | None = None
    holder: Record | None = None
    """The newest `open` record."""
    files: dict[str, DataFile] = field(default_factory=dict)
    accepted: RowRanges = field(default_factory=RowRanges)
    parts: list[Mapping[str, Any]] = field(default_factory=list)
    """Plan parts that were added after the plan was made."""
    complete: bool | None = None
    """Whether the newest extension came to the end of the source; None if there was none."""
    changed: list[Mapping[str, Any]] = field(default_factory=list)
    """Plan parts with newer facts of rows that were planned before, oldest first; `places` tell of a move."""
    stale: RowRanges = field(default_factory=RowRanges)
    """Rows whose image has changed since they were computed."""
    removed: RowRanges = field(default_factory=RowRanges)
    """Rows whose image is gone from the source."""
    errors: Counter[str] = field(default_factory=Counter)
    rows_before: int = 0
    """Rows that were accepted when the newest epoch began."""
    opened: list[float] = field(default_factory=list)
    """When each epoch began."""
    recent: list[list[float]] = field(default_factory=list)
    """Times of the last minutes at which rows were computed, with their number."""

    @property
    def final(self) -> bool:
        """Whether the last record is `final`."""
        return self.last is not None and self.last["type"] == "final"

    @property
    def moves(self) -> list[Mapping[str, Any]]:
        """Plan parts that tell where the source has moved, oldest first."""
        return [part for part in self.changed if "places" in part]

    @property
    def left(self) -> int:
        """Rows that are still to be computed, for the first time or anew."""
        again = sum(high - low for pair in self.stale for low, high in self.accepted.within(*pair))
        return self.planned - len(self.accepted) + again

    def to_json(self) -> dict[str, Any]:
        """Plain data for a snapshot."""
        return {
            "planned": self.planned,
            "epoch": self.epoch,
            "next_seq": self.next_seq,
            "last": self.last,
            "holder": self.holder,
            "parts": self.parts,
            "changed": self.changed,
            "complete": self.complete,
            "rows_before": self.rows_before,
            "opened": self.opened,
            "recent": self.recent,
            "files": [file.to_json() for file in self.files.values()],
            "stale": list(self.stale),
            "removed": list(self.removed),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> State:
        """The inverse of `to_json`."""
        state = State(
            planned=data["planned"],
            epoch=data["epoch"],
            next_seq=data["next_seq"],
            last=data["last"],
            holder=data["holder"],
            parts=data.get("parts", []),
            changed=data.get("changed", []),
            complete=data.get("complete"),
            rows_before=data.get("rows_before", 0),
            opened=data.get("opened", []),
            recent=data.get("recent", []),
        )
        for file in map(DataFile.from_json, data["files"]):
            state.files[file.path] = file
            state.errors.update(file.errors)
        ordered = sorted(pair for file in state.files.values() for pair in file.ranges)
        state.accepted, state.stale, state.removed = (
            RowRanges(pairs) for pairs in (ordered, data.get("stale", ()), data.get("removed", ()))
        )
        return state

    def accepts(self, file: DataFile) -> bool:
        """Whether a file's rows are planned and none of them is accepted yet."""
        return not any(low < 0 or high > self.planned or self.accepted.overlaps(low, high) for low, high in file.ranges)

    def apply(self, record: Record) -> None:
        """Take in the next record.

        Raises:
            CorruptionError: If the protocol forbids it here.
        """
        kind, epoch = record["type"], record["epoch"]
        if kind == "open":
            self._require(epoch > self.epoch, record, "its epoch is not newer")
            self.epoch, self.holder = epoch, record
            self.opened.append(record["time"])
            self.rows_before = len(self.accepted)
        else:
            self._require(epoch == self.epoch, record, f"the run is held by epoch {self.epoch}")
            self._require(not self.final, record, "only open may follow final")
            match kind:
                case "commit":
                    self._commit(record)
                case "replace":
                    self._replace(record)
                case "extend":
                    self._extend(record)
                case "removed":
                    self._removed(record)
                case "moved":
                    self._moved(record)
                case "final":
                    self._final(record)
                case _:
                    self._require(False, record, "this version does not know its type; use a newer cvbatch")
        self.last = record
        self.next_seq += 1

    def _commit(self, record: Record) -> None:
        files = [DataFile.from_json(data) for data in record["files"]]
        for file in files:
            self._add(file, record)
            self.stale.exclude(file.ranges)
        self._computed(record, sum(file.rows for file in files))

    def check_replace(self, record: Record) -> None:
        """Refuse a replacement whose rows are not those that it replaces.

        Raises:
            CorruptionError: If it does.
        """
        before, after = RowRanges(), RowRanges()
        for path in record["remove"]:
            self._require(path in self.files, record, f"{path} is not accepted")
            self._fill(before, self.files[path], record)
        for file in map(DataFile.from_json, record["add"]):
            self._require(file.epoch == record["epoch"], record, f"{file.path} was not written in this epoch")
            self._require(file.path not in self.files, record, f"{file.path} is there already")
            self._fill(after, file, record)
        self._require(before == after, record, "the new rows are not the rows that were replaced")

    def _replace(self, record: Record) -> None:
        self.check_replace(record)
        for path in record["remove"]:
            file = self.files.pop(path)
            self.errors.subtract(file.errors)
            for low, high in file.ranges:
                self.accepted.remove(low, high)
        for data in record["add"]:
            self._add(DataFile.from_json(data), record)
        self.stale.exclude(record["computed"])
        self._computed(record, sum(high - low for low, high in record["computed"]))

    def _computed(self, record: Record, rows: int) -> None:
        now = record["time"]
        self.recent = [each for each in self.recent if now - each[0] <= RECENT_SECONDS] + [[now, rows]]

    def _extend(self, record: Record) -> None:
        for part in record["parts"]:
            self._require(part["first_row_id"] == self.planned, record, "its rows do not follow the plan")
            self.planned += part["rows"]
            self.parts.append(part)
        for part in record.get("changed", ()):
            self._require(all(high <= self.planned for _, high in part["ranges"]), record, "it changes unplanned rows")
            self.changed.append(part)
            self.stale.include(part["ranges"])
        self.complete = record["complete"]

    def _removed(self, record: Record) -> None:
        self.removed.exclude(record.get("back", ()))
        for low, high in record["ranges"]:
            fresh = 0 <= low < high <= self.planned and not self.removed.overlaps(low, high)
            self._require(fresh, record, f"rows {low} to {high} are not planned, or removed already")
            self.removed.add(low, high)

    def _moved(self, record: Record) -> None:
        part = record["part"]
        self._require(all(high <= self.planned for _, high in part["ranges"]), record, "it moves unplanned rows")
        self.changed.append(part)

    def _final(self, record: Record) -> None:
        self._require(record["rows"] == self.planned == len(self.accepted), record, "rows are missing")
        self._require(not len(self.stale), record, "rows of changed images are not computed again")

    def _add(self, file: DataFile, record: Record) -> None:
        self._require(file.epoch == record["epoch"], record, f"{file.path} was not written in this epoch")
        self._require(file.path not in self.files and self.accepts(file), record, f"rows of {file.path} are taken")
        self._fill(self.accepted, file, record)
        self.files[file.path] = file
        self.errors.update(file.errors)

    def _fill(self, rows: RowRanges, file: DataFile, record: Record) -> None:
        try:
            for low, high in file.ranges:
                rows.add(low, high)
        except ValueError as error:
            raise CorruptionError(f"log record {self.next_seq}: {file.path}: {error}") from None

    def _require(self, condition: bool, record: Record, why: str) -> None:
        if not condition:
            raise CorruptionError(f"log record {self.next_seq} ({record['type']}): {why}")
