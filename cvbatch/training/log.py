"""The log of a training: who works on it, how far it has come, and where its checkpoints are.

Like the log of a run, it is one totally ordered list of records, each created at the next free number. A worker of an
attempt that was replaced finds the `open` record of its successor at the number that it wants to write, and stops.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cvbatch.errors import FencedError, OutputError
from cvbatch.output.lease import describe_process
from cvbatch.output.log_records import Record
from cvbatch.output.store import TRAINING_FOLDER, Store, create_with_retries
from cvbatch.system.formats import RecordFormat

_LOG_FOLDER: Final = f"{TRAINING_FOLDER}/log"
TRAINING_RECORD: Final = RecordFormat("record of a training", dict[str, Any])


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished steps of the epoch after them."""


@dataclass(slots=True)
class TrainingState:
    """What the records add up to."""

    epoch: int = 0
    """Number of the newest attempt."""
    next_seq: int = 0
    holder: Record | None = None
    """The newest `open` record."""
    position: Position = Position()
    """Of the newest checkpoint."""
    checkpoint: str | None = None
    """The file of the newest checkpoint."""
    best: Mapping[str, Any] | None = None
    """The best epoch so far: `epoch`, `metric`, `scores`, `weights` (a file) and its `sha256`."""
    history: list[Mapping[str, Any]] = field(default_factory=list)
    """One row for each finished epoch; see `EpochRow` in `training.torch.loop`."""
    final: Record | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be learned."""
        return self.final is not None

    @property
    def files(self) -> set[str]:
        """Files that must stay."""
        return {name for name in (self.checkpoint, (self.best or {}).get("weights")) if name is not None}

    def apply_record(self, record: Record) -> None:
        """Add the next record."""
        self.next_seq += 1
        self.epoch = max(self.epoch, record["epoch"])
        match record["type"]:
            case "open":
                self.holder = record
            case "checkpoint":
                self.position = Position(*record["position"])
                self.checkpoint = record["file"]
                self.best = record["best"]
                self.history.extend(record["history"])
            case "final":
                self.final = record


class TrainingLog:
    """The log of one training.

    Args:
        store: The output.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state = TrainingState()
        self.refresh()

    def refresh(self) -> TrainingState:
        """Apply all new records, and return the state."""
        while True:
            try:
                content = self.store.read_object(_record_name(self.state.next_seq))
            except FileNotFoundError:
                return self.state
            self.state.apply_record(TRAINING_RECORD.decode_record(content, f"{self.store.root}/{_LOG_FOLDER}"))

    def open_attempt(self) -> int:
        """Take the training over: no earlier attempt can write a checkpoint after this; returns the attempt's number.

        Raises:
            OutputError: If another attempt opened it at the same moment.
        """
        before = self.state.epoch
        while not self._try_append({"type": "open", "epoch": self.state.epoch + 1, "holder": describe_process()}):
            self.refresh()
            if self.state.epoch > before:
                raise OutputError(f"{self.store.root}: another process has started to work on it; wait for it")
        return self.state.epoch

    def append_record(self, attempt: int, kind: str, **fields: Any) -> None:
        """Append a record of an attempt.

        Raises:
            FencedError: If a newer attempt has taken the training over.
        """
        while not self._try_append({"type": kind, "epoch": attempt, **fields}):
            self.refresh()
            self.check_attempt(attempt)

    def check_attempt(self, attempt: int) -> None:
        """Check that no newer attempt works on the training.

        Raises:
            FencedError: If there is one.
        """
        if self.state.epoch > attempt:
            raise FencedError(f"{self.store.root}: attempt {self.state.epoch} has taken the training over")

    def _try_append(self, record: Record) -> bool:
        own = {**record, "time": time.time(), "nonce": uuid.uuid4().hex}
        name = _record_name(self.state.next_seq)
        if not create_with_retries(self.store, name, TRAINING_RECORD.encode_record(own)):
            stored = TRAINING_RECORD.decode_record(self.store.read_object(name), f"{self.store.root}/{name}")
            if stored["nonce"] != own["nonce"]:  # else it is this very one, whose answer got lost
                return False
        self.state.apply_record(own)
        return True


def _record_name(seq: int) -> str:
    return f"{_LOG_FOLDER}/{seq:08d}.json"
