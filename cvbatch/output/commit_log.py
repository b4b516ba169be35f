"""The commit log: one totally ordered list of records, each created at the next free number.

Its safety depends on one fact: the store creates a record only if its number is free. A driver that was replaced finds
the `open` record of its successor at the number that it wants to write, and stops.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cvbatch.errors import CorruptionError, FencedError, OutputError, RunError
from cvbatch.output.checkpoints import CHECKPOINT_RECORDS, load_checkpoint, save_checkpoint
from cvbatch.output.lease import describe_holder, describe_process
from cvbatch.output.log_records import DataFile, Record, RunState
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store, create_with_retries
from cvbatch.system.formats import RecordFormat

LOG_FOLDER = "_cvbatch/log"
_RECORD: Final = RecordFormat("record of the log", dict[str, Any])


def record_name(seq: int) -> str:
    """Object name of the record with this number."""
    return f"{LOG_FOLDER}/{seq:010d}.json"


def read_record(store: Store, name: str) -> Record:
    """Read one record.

    Raises:
        FileNotFoundError: If there is none.
        OutputError: If a newer version wrote it in a format that this version cannot read.
    """
    return _RECORD.decode_record(store.read_object(name), f"{store.root}/{name}")


def newest_record_name(store: Store, known_record: str | None = None) -> str | None:
    """Object name of the newest record, or None if there is none.

    Args:
        store: The output.
        known_record: Name of an existing record; older records are not listed.
    """
    return max(store.list_sizes(LOG_FOLDER, known_record or ""), default=known_record)


def last_record(store: Store, known_record: str | None = None) -> tuple[str, Record] | None:
    """Return the newest record with its name, without reading the others.

    Args:
        store: The output.
        known_record: Name of a record that existed before; older records are not listed.
    """
    name = newest_record_name(store, known_record)
    if name is None:
        return None
    try:
        return name, read_record(store, name)
    except FileNotFoundError:
        if known_record is None:
            raise
        return last_record(store)  # the output was removed, and another run started in its place


class CommitLog:
    """The log of one run; one driver reads it and, after `open_epoch`, appends to it.

    Args:
        store: The output.
        planned: Number of rows in the original plan.
        whole: Read every record instead of starting from a checkpoint.
    """

    def __init__(self, store: Store, planned: int, *, whole: bool = False) -> None:
        self.store = store
        self.state = (None if whole else load_checkpoint(store)) or RunState(planned)
        self._epoch: int | None = None
        self._lock = threading.Lock()
        self.refresh()

    @property
    def epoch(self) -> int:
        """Epoch of this driver; the log must be open."""
        if self._epoch is None:
            raise RunError("the log is not open")
        return self._epoch

    def refresh(self) -> RunState:
        """Apply all new records, and return the state."""
        # a listing may miss a record that is created meanwhile, but all records before its newest one exist
        known = record_name(self.state.next_seq - 1) if self.state.next_seq else None
        newest = newest_record_name(self.store, known) or ""
        while (name := record_name(self.state.next_seq)) <= newest:
            try:
                self.state.apply_record(read_record(self.store, name))
            except FileNotFoundError:
                raise CorruptionError(f"{self.store.root}: {name} is missing from the log") from None
        return self.state

    def open_epoch(self, holder: dict[str, Any] | None = None) -> int:
        """Take over the run: no older driver can commit after this.

        Returns:
            The new epoch.

        Raises:
            OutputError: If another attempt opened the run at the same moment.
        """
        epoch_before = self.state.epoch
        while True:
            record = self._with_nonce(
                {"type": "open", "epoch": self.state.epoch + 1, "holder": holder or describe_process()}
            )
            if self._try_append(record):
                break
            if self.state.epoch != epoch_before:
                raise self._opened_by_another()
        if self.refresh().epoch != record["epoch"]:
            raise self._opened_by_another()
        self._epoch = record["epoch"]
        return self.epoch

    def commit_files(self, files: Iterable[DataFile]) -> list[DataFile]:
        """Append the files of this epoch whose rows are not committed yet.

        Returns:
            The accepted files; the others are orphans.

        Raises:
            FencedError: If another attempt has taken over.
        """
        with self._exclusive_append() as epoch:
            accepted, accepted_rows = [], RowRanges()
            for file in files:
                is_acceptable = file.epoch == epoch and self.state.can_accept(file)
                if is_acceptable and not any(accepted_rows.overlaps(*pair) for pair in file.ranges):
                    accepted.append(file)
                    for pair in file.ranges:
                        accepted_rows.add_range(*pair)
            if accepted:
                self._append_record({"type": "commit", "files": [file.to_json() for file in accepted]})
            return accepted

    def replace_files(self, remove: Iterable[str], add: Iterable[DataFile], computed: Iterable[RowRange]) -> None:
        """Replace accepted files by files of this epoch with exactly the same rows.

        Args:
            remove: Names of accepted files.
            add: Files that replace them.
            computed: Rows that were computed again; all other rows were copied.

        Raises:
            FencedError: If another attempt has taken over.
            CorruptionError: If the rows are not the same; nothing is appended.
        """
        self._append_replacement({"type": "replace", "remove": list(remove)}, add, computed)

    def evolve_files(self, add: Iterable[DataFile], plan_file: str) -> None:
        """Replace all accepted files by files of this epoch with exactly the same rows, and the plan by another one.

        Args:
            add: Files with the columns of the new plan.
            plan_file: Name of the new plan: the old one with other models.

        Raises:
            FencedError: If another attempt has taken over.
            CorruptionError: If the rows are not the same; nothing is appended.
        """
        self._append_replacement({"type": "evolve", "remove": list(self.state.files), "plan": plan_file}, add, ())

    def _append_replacement(self, body: dict[str, Any], add: Iterable[DataFile], computed: Iterable[RowRange]) -> None:
        record = {
            **body,
            "add": [file.to_json() for file in add],
            "computed": [list(pair) for pair in computed],
        }
        with self._exclusive_append() as epoch:
            self.state.check_replace({**record, "epoch": epoch})
            self._append_record(record)

    def extend_plan(
        self, parts: Sequence[Mapping[str, Any]], *, complete: bool, changed: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Add plan parts; their first row id must be `self.state.planned`.

        Args:
            parts: Plan parts with new rows; empty if a complete listing had no new images.
            complete: Whether the listing reached the end of the source.
            changed: Plan parts with newer facts about rows that are already planned, each with its `ranges`.
        """
        with self._exclusive_append():
            record = {"type": "extend", "parts": list(parts), "complete": complete, "changed": list(changed)}
            self._append_record(record)

    def remove_rows(self, gone: Iterable[RowRange], back: Iterable[RowRange] = ()) -> None:
        """Record rows whose image disappeared from the source, and rows whose image is back; all rows stay.

        Args:
            gone: Rows whose image disappeared.
            back: Removed rows whose image is in the source again.
        """
        with self._exclusive_append():
            record = {"ranges": [list(pair) for pair in gone], "back": [list(pair) for pair in back]}
            self._append_record({"type": "removed", **record})

    def record_move(self, part: Mapping[str, Any]) -> None:
        """Record that the source has moved.

        Args:
            part: A plan part with newer facts about its rows, none of which is computed again; with `ranges`, and with
                `places` as pairs of old and new location.
        """
        with self._exclusive_append():
            self._append_record({"type": "moved", "part": dict(part)})

    def append_final(self) -> int:
        """Append `final`, and return its number.

        Raises:
            RunError: If rows are missing.
        """
        with self._exclusive_append():
            if missing := self.state.remaining_rows:
                raise RunError(f"{self.store.root}: {missing} rows are missing; run the same command to resume")
            self._append_record({"type": "final", "rows": self.state.planned})
            return self.state.next_seq - 1

    def _append_record(self, body: dict[str, Any]) -> None:
        record = self._with_nonce({**body, "epoch": self.epoch})
        if not self._try_append(record):
            raise self._fenced_error()
        if self.state.next_seq % CHECKPOINT_RECORDS.current_value == 0:
            save_checkpoint(self.store, self.state)

    @contextlib.contextmanager
    def _exclusive_append(self) -> Iterator[int]:
        """Let one thread append at a time; a driver that has read a newer epoch or `final` must not append."""
        with self._lock:
            if self.epoch != self.state.epoch or self.state.is_final:
                raise self._fenced_error()
            yield self.epoch

    def _fenced_error(self) -> FencedError:
        return FencedError(f"{self.store.root}: another attempt has taken over ({describe_holder(self.state)})")

    def _opened_by_another(self) -> OutputError:
        return OutputError(
            f"{self.store.root}: another attempt has opened this run at the same time ({describe_holder(self.state)}); "
            "wait for it with --wait, or stop it"
        )

    def _with_nonce(self, body: dict[str, Any]) -> dict[str, Any]:
        return _RECORD.to_json({**body, "nonce": uuid.uuid4().hex, "time": time.time()})

    def _try_append(self, record: dict[str, Any]) -> bool:
        """Create a record at the next number; False if that number has another record, which is then applied."""
        name = record_name(self.state.next_seq)
        if create_with_retries(self.store, name, _RECORD.encode_record(record)):
            self.state.apply_record(record)
            return True
        existing = read_record(self.store, name)
        self.state.apply_record(existing)
        return bool(existing["nonce"] == record["nonce"])
