"""The commit log: one totally ordered list of records, each created at the next free number.

Safety rests on one fact: a record can be created only where none is. A driver that was replaced meets the
`open` record of its successor at the number it wants to write, and stops.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from cvbatch.errors import CorruptionError, FencedError, OutputError, RunError
from cvbatch.writing.holder import describe, this_process
from cvbatch.writing.ranges import RowRanges
from cvbatch.writing.records import DataFile, Record, State
from cvbatch.writing.store import AmbiguousError, Store

FOLDER = "_cvbatch/log"
_GIVE_UP_AFTER = 300.0
_PAUSE = 1.0


def record_name(seq: int) -> str:
    """Name of the record with this number."""
    return f"{FOLDER}/{seq:010d}.json"


def newest_name(store: Store) -> str | None:
    """Name of the newest record, or None if there is none."""
    return max(store.sizes(FOLDER), default=None)


def last_record(store: Store) -> Record | None:
    """Return the newest record without reading the others."""
    name = newest_name(store)
    return None if name is None else json.loads(store.read(name))


class Log:
    """The log of one run, read and, after `open`, written by one driver.

    Args:
        store: The output.
        planned: Rows of the plan as it was first made.
    """

    def __init__(self, store: Store, planned: int) -> None:
        self.store = store
        self.state = State(planned)
        self._epoch: int | None = None
        self._lock = threading.Lock()
        self.read()

    @property
    def epoch(self) -> int:
        """The epoch of this driver, once the log is open."""
        if self._epoch is None:
            raise RunError("the log is not open")
        return self._epoch

    def read(self) -> State:
        """Take in every record that is new, and return the state."""
        names = [name for name in self.store.sizes(FOLDER) if name >= record_name(self.state.next_seq)]
        for name in names:
            if name != record_name(self.state.next_seq):
                raise CorruptionError(f"{self.store.root}: {record_name(self.state.next_seq)} is missing from the log")
            self.state.apply(json.loads(self.store.read(name)))
        return self.state

    def open(self, holder: dict[str, Any] | None = None) -> int:
        """Take the run over: from here on no older driver can commit.

        Returns:
            The new epoch.

        Raises:
            OutputError: If another start opened it at the same moment.
        """
        asked_after = self.state.epoch
        while True:
            record = self._stamp({"type": "open", "epoch": self.state.epoch + 1, "holder": holder or this_process()})
            if self._try_append(record):
                break
            if self.state.epoch != asked_after:
                raise OutputError(f"{self.store.root}: another start has just opened it ({describe(self.state)})")
        if self.read().epoch != record["epoch"]:
            raise OutputError(f"{self.store.root}: another start has just opened it ({describe(self.state)})")
        self._epoch = record["epoch"]
        return self.epoch

    def commit(self, files: Iterable[DataFile]) -> list[DataFile]:
        """Append the files whose rows nobody has committed yet.

        Returns:
            The accepted files; the others are orphans.
        """
        with self._lock:
            accepted, taken = [], RowRanges()
            for file in files:
                if self.state.accepts(file) and not any(taken.overlaps(*pair) for pair in file.ranges):
                    accepted.append(file)
                    for pair in file.ranges:
                        taken.add(*pair)
            if accepted:
                self._append({"type": "commit", "files": [file.to_json() for file in accepted]})
            return accepted

    def extend(self, parts: Sequence[dict[str, Any]]) -> None:
        """Add plan parts; their row ids must follow those of `self.state.planned`."""
        with self._lock:
            self._append({"type": "extend", "parts": list(parts)})

    def finalise(self) -> int:
        """Append `final`; returns its number."""
        with self._lock:
            self._append({"type": "final", "rows": self.state.planned})
            return self.state.next_seq - 1

    def _append(self, body: dict[str, Any]) -> None:
        record = self._stamp({**body, "epoch": self.epoch})
        if not self._try_append(record):
            raise FencedError(f"{self.store.root}: another start has taken over ({describe(self.state)})")

    def _stamp(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "nonce": uuid.uuid4().hex, "time": time.time()}

    def _try_append(self, record: dict[str, Any]) -> bool:
        """Create the record at the next number; False if a foreign record is there, which is taken in."""
        name = record_name(self.state.next_seq)
        data = json.dumps(record).encode()
        deadline = time.monotonic() + _GIVE_UP_AFTER
        while True:
            try:
                if not self.store.create(name, data):
                    there = json.loads(self.store.read(name))
                    self.state.apply(there)
                    return bool(there["nonce"] == record["nonce"])
                self.state.apply(record)
                return True
            except AmbiguousError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"{self.store.root}: the commit log cannot be written: {error}") from None
                time.sleep(_PAUSE)
