"""The records of the commit log, and the run state that results from them.

`RunState.apply_record` is a pure fold: the same records give the same state on every machine. It refuses records that
the protocol forbids, so a log that can be read is valid.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cvbatch.deprecated import renamed_attributes
from cvbatch.errors import CorruptionError
from cvbatch.output.row_ranges import RowRange, RowRanges

Record = Mapping[str, Any]
RECENT_SECONDS: Final = 300.0
_DATA_NAME = re.compile(r"data/e(\d+)-[0-9a-f]{32}\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of the predictions, as recorded in the log."""

    path: str
    size: int
    ranges: tuple[RowRange, ...]
    errors: Mapping[str, int] = field(default_factory=dict)
    """Number of its error rows by `error_type`; empty for a file of good rows."""

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return sum(high - low for low, high in self.ranges)

    @property
    def epoch(self) -> int | None:
        """Epoch of the attempt that wrote it."""
        return epoch_of_path(self.path)

    def to_json(self) -> dict[str, Any]:
        """Return JSON data for a record or a manifest."""
        error_rows = sum(self.errors.values())
        return {
            "path": self.path,
            "size": self.size,
            "ranges": [list(pair) for pair in self.ranges],
            "statuses": {"ok": self.row_count - error_rows, "error": error_rows},
            "errors": dict(self.errors),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> DataFile:
        """Make a file from the data of `to_json`."""
        ranges = tuple((low, high) for low, high in data["ranges"])
        return DataFile(data["path"], data["size"], ranges, data.get("errors", {}))


def epoch_of_path(path: str) -> int | None:
    """Epoch in a data file's name `data/e<epoch>-<uuid>.parquet`; None for any other name."""
    match = _DATA_NAME.fullmatch(path)
    return int(match[1]) if match else None


@dataclass(slots=True)
class RunState:
    """State of a run after a given record of its log."""

    planned: int
    """Number of rows in the plan and its extensions."""
    epoch: int = 0
    next_seq: int = 0
    last: Record | None = None
    holder: Record | None = None
    """The newest `open` record."""
    files: dict[str, DataFile] = field(default_factory=dict)
    accepted: RowRanges = field(default_factory=RowRanges)
    parts: list[Mapping[str, Any]] = field(default_factory=list)
    """Plan parts that were added to the original plan."""
    complete: bool | None = None
    """Whether the newest extension reached the end of the source; None without extensions."""
    changed: list[Mapping[str, Any]] = field(default_factory=list)
    """Plan parts with newer facts about rows that were planned before, oldest first; a part with `places` is a move."""
    stale: RowRanges = field(default_factory=RowRanges)
    """Rows whose image has changed since they were computed."""
    removed: RowRanges = field(default_factory=RowRanges)
    """Rows whose image is no longer in the source."""
    errors: Counter[str] = field(default_factory=Counter)
    """Number of accepted error rows by `error_type`."""
    rows_before: int = 0
    """Number of rows that were accepted when the newest epoch started."""
    opened: list[float] = field(default_factory=list)
    """Start time of each epoch, in seconds since 1970."""
    plan_file: str | None = None
    """The plan with the current models, once they have changed."""
    recent: list[list[float]] = field(default_factory=list)
    """Pairs of time and number of rows computed, for the last `RECENT_SECONDS`."""

    if not TYPE_CHECKING:
        __getattr__ = renamed_attributes(
            "RunState", {"final": "is_final", "left": "remaining_rows", "moves": "move_parts"}
        )

    @property
    def is_final(self) -> bool:
        """Whether the last record is `final`."""
        return self.last is not None and self.last["type"] == "final"

    @property
    def move_parts(self) -> list[Mapping[str, Any]]:
        """Plan parts that record where the source has moved, oldest first."""
        return [part for part in self.changed if "places" in part]

    @property
    def remaining_rows(self) -> int:
        """Number of rows to compute, for the first time or again."""
        stale_rows = sum(high - low for pair in self.stale for low, high in self.accepted.ranges_within(*pair))
        return self.planned - len(self.accepted) + stale_rows

    def to_json(self) -> dict[str, Any]:
        """Return JSON data for a checkpoint."""
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
            "plan_file": self.plan_file,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunState:
        """Make a state from the data of `to_json`."""
        state = RunState(
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
            plan_file=data.get("plan_file"),
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

    def can_accept(self, file: DataFile) -> bool:
        """Whether all rows of a file are planned, and none of them is accepted yet."""
        return not any(low < 0 or high > self.planned or self.accepted.overlaps(low, high) for low, high in file.ranges)

    def apply_record(self, record: Record) -> None:
        """Update the state by the next record.

        Raises:
            CorruptionError: If the protocol forbids the record in this state.
        """
        kind, epoch = record["type"], record["epoch"]
        if kind == "open":
            self._require_valid(epoch > self.epoch, record, "its epoch is not newer")
            self.epoch, self.holder = epoch, record
            self.opened.append(record["time"])
            self.rows_before = len(self.accepted)
        else:
            self._require_valid(epoch == self.epoch, record, f"the run is held by epoch {self.epoch}")
            self._require_valid(not self.is_final, record, "only open may follow final")
            match kind:
                case "commit":
                    self._apply_commit(record)
                case "replace":
                    self._apply_replace(record)
                case "evolve":
                    self._require_valid(len(record["remove"]) == len(self.files), record, "it leaves files behind")
                    self._apply_replace(record)
                    self.plan_file = record["plan"]
                case "extend":
                    self._apply_extend(record)
                case "removed":
                    self._apply_removed(record)
                case "moved":
                    self._apply_moved(record)
                case "final":
                    self._apply_final(record)
                case _:
                    self._require_valid(False, record, "this version does not know its type; use a newer cvbatch")
        self.last = record
        self.next_seq += 1

    def _apply_commit(self, record: Record) -> None:
        files = [DataFile.from_json(data) for data in record["files"]]
        for file in files:
            self._accept_file(file, record)
            self.stale.remove_present(file.ranges)
        self._note_computed_rows(record, sum(file.row_count for file in files))

    def check_replace(self, record: Record) -> None:
        """Check that a `replace` record adds exactly the rows that it removes.

        Raises:
            CorruptionError: If it does not.
        """
        removed_rows, added_rows = RowRanges(), RowRanges()
        for path in record["remove"]:
            self._require_valid(path in self.files, record, f"{path} is not accepted")
            self._add_ranges(removed_rows, self.files[path], record)
        for file in map(DataFile.from_json, record["add"]):
            self._require_valid(file.epoch == record["epoch"], record, f"{file.path} was not written in this epoch")
            self._require_valid(file.path not in self.files, record, f"{file.path} is accepted already")
            self._add_ranges(added_rows, file, record)
        self._require_valid(removed_rows == added_rows, record, "the added rows differ from the removed rows")

    def _apply_replace(self, record: Record) -> None:
        self.check_replace(record)
        for path in record["remove"]:
            file = self.files.pop(path)
            self.errors.subtract(file.errors)
            for low, high in file.ranges:
                self.accepted.remove_range(low, high)
        for data in record["add"]:
            self._accept_file(DataFile.from_json(data), record)
        self.stale.remove_present(record["computed"])
        self._note_computed_rows(record, sum(high - low for low, high in record["computed"]))

    def _note_computed_rows(self, record: Record, rows: int) -> None:
        now = record["time"]
        self.recent = [pair for pair in self.recent if now - pair[0] <= RECENT_SECONDS] + [[now, rows]]

    def _apply_extend(self, record: Record) -> None:
        for part in record["parts"]:
            self._require_valid(part["first_row_id"] == self.planned, record, "its rows do not follow the plan")
            self.planned += part["rows"]
            self.parts.append(part)
        for part in record.get("changed", ()):
            self._require_valid(
                all(high <= self.planned for _, high in part["ranges"]), record, "it changes unplanned rows"
            )
            self.changed.append(part)
            self.stale.add_missing(part["ranges"])
        self.complete = record["complete"]

    def _apply_removed(self, record: Record) -> None:
        self.removed.remove_present(record.get("back", ()))
        for low, high in record["ranges"]:
            is_valid = 0 <= low < high <= self.planned and not self.removed.overlaps(low, high)
            self._require_valid(is_valid, record, f"rows {low} to {high} are not planned, or removed already")
            self.removed.add_range(low, high)

    def _apply_moved(self, record: Record) -> None:
        part = record["part"]
        self._require_valid(all(high <= self.planned for _, high in part["ranges"]), record, "it moves unplanned rows")
        self.changed.append(part)

    def _apply_final(self, record: Record) -> None:
        self._require_valid(record["rows"] == self.planned == len(self.accepted), record, "rows are missing")
        self._require_valid(not len(self.stale), record, "rows of changed images are not computed again")

    def _accept_file(self, file: DataFile, record: Record) -> None:
        self._require_valid(file.epoch == record["epoch"], record, f"{file.path} was not written in this epoch")
        self._require_valid(
            file.path not in self.files and self.can_accept(file),
            record,
            f"rows of {file.path} are not planned, or accepted already",
        )
        self._add_ranges(self.accepted, file, record)
        self.files[file.path] = file
        self.errors.update(file.errors)

    def _add_ranges(self, rows: RowRanges, file: DataFile, record: Record) -> None:
        try:
            for low, high in file.ranges:
                rows.add_range(low, high)
        except ValueError as error:
            raise CorruptionError(f"log record {self.next_seq}: {file.path}: {error}") from None

    def _require_valid(self, condition: bool, record: Record, problem: str) -> None:
        if not condition:
            raise CorruptionError(f"log record {self.next_seq} ({record['type']}): {problem}")
