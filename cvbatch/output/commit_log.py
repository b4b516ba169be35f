"""The commit log: one totally ordered list of records, each created at the next free number.

Safety rests on one fact: a record can be created only where none is. A driver that was replaced meets the
`open_epoch` record of its successor at the number it wants to write, and stops.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cvbatch.errors import CorruptionError, FencedError, OutputError, RunError
from cvbatch.output.checkpoints import SNAPSHOT_RECORDS, load_checkpoint, save_checkpoint
from cvbatch.output.lease import describe_holder, describe_process
from cvbatch.output.log_records import DataFile, Record, RunState
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store, create_with_retries
from cvbatch.system.formats import RecordFormat

LOG_FOLDER = "_cvbatch/log"
_RECORD: Final = RecordFormat("record of the log", dict[str, Any])


def record_name(seq: int) -> str:
    """Name of the record with this number."""
    return f"{LOG_FOLDER}/{seq:010d}.json"


def read_record(store: Store, name: str) -> Record:
    """Read one record; raises FileNotFoundError if there is none.

    Raises:
        OutputError: If a newer version wrote it, in a format that this one does not read.
    """
    return _RECORD.decode_record(store.read_object(name), f"{store.root}/{name}")


def newest_record_name(store: Store, known: str | None = None) -> str | None:
    """Name of the newest record, or None if there is none.

    Args:
        store: The output.
        known: A record that is there; those before it are not listed.
    """
    return max(store.list_sizes(LOG_FOLDER, known or ""), default=known)


def last_record(store: Store, known: str | None = None) -> tuple[str, Record] | None:
    """Return the newest record with its name, without reading the others.

    Args:
        store: The output.
        known: A record that was there; those before it are not listed.
    """
    name = newest_record_name(store, known)
    if name is None:
        return None
    try:
        return name, read_record(store, name)
    except FileNotFoundError:
        if known is None:
            raise
        return last_record(store)  # the output was removed, and another run has begun there


class CommitLog:
    """The log of one run, read and, after `open_epoch`, written by one driver.

    Args:
        store: The output.
        planned: Rows of the plan as it was first made.
        whole: Read every record, without the short cut of a snapshot.
    """

    def __init__(self, store: Store, planned: int, *, whole: bool = False) -> None:
        self.store = store
        self.state = (None if whole else load_checkpoint(store)) or RunState(planned)
        self._epoch: int | None = None
        self._lock = threading.Lock()
        self.refresh()

    @property
    def epoch(self) -> int:
        """The epoch of this driver, once the log is open."""
        if self._epoch is None:
            raise RunError("the log is not open")
        return self._epoch

    def refresh(self) -> RunState:
        """Take in every record that is new, and return the state."""
        # a listing may miss what is created meanwhile, but whatever comes before its newest record is there
        newest = (
            newest_record_name(self.store, record_name(self.state.next_seq - 1) if self.state.next_seq else None) or ""
        )
        while (name := record_name(self.state.next_seq)) <= newest:
            try:
                self.state.apply_record(read_record(self.store, name))
            except FileNotFoundError:
                raise CorruptionError(f"{self.store.root}: {name} is missing from the log") from None
        return self.state

    def open_epoch(self, holder: dict[str, Any] | None = None) -> int:
        """Take the run over: from here on no older driver can commit.

        Returns:
            The new epoch.

        Raises:
            OutputError: If another start opened it at the same moment.
        """
        asked_after = self.state.epoch
        while True:
            record = self._with_nonce(
                {"type": "open", "epoch": self.state.epoch + 1, "holder": holder or describe_process()}
            )
            if self._try_append(record):
                break
            if self.state.epoch != asked_after:
                raise OutputError(
                    f"{self.store.root}: another start has just opened it ({describe_holder(self.state)})"
                )
        if self.refresh().epoch != record["epoch"]:
            raise OutputError(f"{self.store.root}: another start has just opened it ({describe_holder(self.state)})")
        self._epoch = record["epoch"]
        return self.epoch

    def commit_files(self, files: Iterable[DataFile]) -> list[DataFile]:
        """Append the files of this epoch whose rows nobody has committed yet.

        Returns:
            The accepted files; the others are orphans.

        Raises:
            FencedError: If another start has taken over.
        """
        with self._exclusive_append() as epoch:
            accepted, taken = [], RowRanges()
            for file in files:
                ours = file.epoch == epoch and self.state.can_accept(file)
                if ours and not any(taken.overlaps(*pair) for pair in file.ranges):
                    accepted.append(file)
                    for pair in file.ranges:
                        taken.add_range(*pair)
            if accepted:
                self._append_record({"type": "commit", "files": [file.to_json() for file in accepted]})
            return accepted

    def replace_files(self, remove: Iterable[str], add: Iterable[DataFile], computed: Iterable[RowRange]) -> None:
        """Swap files for files of this epoch with exactly the same rows.

        Args:
            remove: Names of accepted files.
            add: Their successors.
            computed: The rows that were computed anew; the others were copied.

        Raises:
            FencedError: If another start has taken over.
            CorruptionError: If the rows are not the same; nothing is appended.
        """
        record = {
            "type": "replace",
            "remove": list(remove),
            "add": [file.to_json() for file in add],
            "computed": [list(pair) for pair in computed],
        }
        with self._exclusive_append() as epoch:
            self.state.check_replace({**record, "epoch": epoch})
            self._append_record(record)

    def extend_plan(
        self, parts: Sequence[Mapping[str, Any]], *, complete: bool, changed: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Add plan parts; their row ids must follow those of `self.state.planned`.

        Args:
            parts: May be none, where a listing came to its end without anything new.
            complete: Whether the listing came to its end.
            changed: Plan parts with newer facts of rows that are planned already, each with its `ranges`.
        """
        with self._exclusive_append():
            record = {"type": "extend", "parts": list(parts), "complete": complete, "changed": list(changed)}
            self._append_record(record)

    def remove_rows(self, gone: Iterable[RowRange], back: Iterable[RowRange] = ()) -> None:
        """Say which rows' images are gone from the source, and which are there again; all rows stay."""
        with self._exclusive_append():
            record = {"ranges": [list(pair) for pair in gone], "back": [list(pair) for pair in back]}
            self._append_record({"type": "removed", **record})

    def record_move(self, part: Mapping[str, Any]) -> None:
        """Say that the source lies elsewhere now.

        Args:
            part: A plan part with the newer facts of its rows, none of which is computed anew; with `ranges`, and with
                `places` as pairs of the old and the new location.
        """
        with self._exclusive_append():
            self._append_record({"type": "moved", "part": dict(part)})

    def append_final(self) -> int:
        """Append `final`; returns its number.

        Raises:
            RunError: If rows are missing.
        """
        with self._exclusive_append():
            if missing := self.state.remaining_rows:
                raise RunError(f"{self.store.root}: {missing} rows are missing; the same cvbatch run goes on")
            self._append_record({"type": "final", "rows": self.state.planned})
            return self.state.next_seq - 1

    def _append_record(self, body: dict[str, Any]) -> None:
        record = self._with_nonce({**body, "epoch": self.epoch})
        if not self._try_append(record):
            raise self._fenced_error()
        if self.state.next_seq % SNAPSHOT_RECORDS.current_value == 0:
            save_checkpoint(self.store, self.state)

    @contextlib.contextmanager
    def _exclusive_append(self) -> Iterator[int]:
        """One appender at a time; whoever has seen a newer epoch, or the end, must not write behind it."""
        with self._lock:
            if self.epoch != self.state.epoch or self.state.is_final:
                raise self._fenced_error()
            yield self.epoch

    def _fenced_error(self) -> FencedError:
        return FencedError(f"{self.store.root}: another start has taken over ({describe_holder(self.state)})")

    def _with_nonce(self, body: dict[str, Any]) -> dict[str, Any]:
        return _RECORD.to_json({**body, "nonce": uuid.uuid4().hex, "time": time.time()})

    def _try_append(self, record: dict[str, Any]) -> bool:
        """Create the record at the next number; False if a foreign record is there, which is taken in."""
        name = record_name(self.state.next_seq)
        if create_with_retries(self.store, name, _RECORD.encode_record(record)):
            self.state.apply_record(record)
            return True
        there = read_record(self.store, name)
        self.state.apply_record(there)
        return bool(there["nonce"] == record["nonce"])
