"""How a training is doing, for whoever watches; nothing depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cvbatch.errors import CorruptionError
from cvbatch.output.store import TRAINING_FOLDER, Store
from cvbatch.system.formats import RecordFormat

PROGRESS_FILE: Final = f"{TRAINING_FOLDER}/progress.json"
STOP_FILE: Final = f"{TRAINING_FOLDER}/stop.json"
_STOP: Final = RecordFormat("request to stop", dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """The newest step."""

    attempt: int
    epoch: int
    """Epoch that is being learned, from 1 on."""
    epochs: int
    step: int
    """Finished steps of all epochs."""
    steps: int
    """Steps of all epochs."""
    loss: Mapping[str, float] = field(default_factory=dict)
    """Mean of each part of the loss since the last progress."""
    rate: float = 0.0
    """Learning rate of the head."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Validation metrics of the last finished epoch."""
    images_per_second: float = 0.0
    waiting: float = 0.0
    """Share of the time in which the worker waited for images."""
    seconds_remaining: float | None = None
    phase: str = "learning"


PROGRESS: Final = RecordFormat("progress of a training", TrainingProgress)


def read_progress(store: Store) -> TrainingProgress | None:
    """The newest progress, or None if there is none."""
    try:
        return PROGRESS.decode_record(store.read_object(PROGRESS_FILE), f"{store.root}/{PROGRESS_FILE}")
    except (FileNotFoundError, CorruptionError):
        return None


def request_stop(store: Store, attempt: int) -> None:
    """Ask the workers of an attempt to write a checkpoint and to end."""
    store.put_object(STOP_FILE, _STOP.encode_record({"attempt": attempt}))


def is_stop_requested(store: Store, attempt: int) -> bool:
    """Whether the workers of an attempt shall end."""
    try:
        return bool(_STOP.decode_record(store.read_object(STOP_FILE), STOP_FILE).get("attempt") == attempt)
    except (FileNotFoundError, CorruptionError):
        return False
