"""Checkpoints: everything that is needed to go on as if nothing had happened, in files that are written atomically."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import safetensors.torch
import torch
from torch import Tensor

from cvbatch.errors import CorruptionError
from cvbatch.output.store import TRAINING_FOLDER, Store
from cvbatch.training.log import Position, TrainingLog

CHECKPOINT_FOLDER: Final = f"{TRAINING_FOLDER}/checkpoints"
_VERSION: Final = 1
LEAST_SECONDS: Final = 2.0
"""Between the checkpoints of two epochs: where an epoch takes less, several have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a training between two steps; random numbers depend on the step alone, so they have no state."""

    position: Position
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None
    """Of the stage; None at the start of one."""
    average: Mapping[str, Tensor] | None = None
    updates: int = 0
    """Of the average."""
    sums: Mapping[str, float] | None = None
    """Of the unfinished epoch; see `loop.EpochSums`."""


class CheckpointWriter:
    """Writes checkpoints and the best weights, and removes those that are no longer needed.

    Args:
        log: Of the training.
        attempt: Number of the attempt.
    """

    def __init__(self, log: TrainingLog, attempt: int) -> None:
        self._log, self._attempt = log, attempt
        self.written_at = -LEAST_SECONDS

    @property
    def age(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self.written_at

    def write_weights(self, weights: Mapping[str, Tensor], epoch: int) -> dict[str, str]:
        """Write the weights of an epoch that is the best so far; returns their file and its sha256."""
        plain = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        data = safetensors.torch.save(plain)
        name = f"{CHECKPOINT_FOLDER}/best-{epoch:05d}-{uuid.uuid4().hex[:8]}.safetensors"
        self._log.store.put_object(name, data)
        return {"weights": name, "sha256": hashlib.sha256(data).hexdigest()}

    def write_checkpoint(
        self, snapshot: Snapshot, history: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None
    ) -> None:
        """Write a checkpoint; it counts once its record is in the log.

        Args:
            snapshot: The state.
            history: Rows of the epochs that have ended since the last checkpoint.
            best: The best epoch so far.

        Raises:
            FencedError: If a newer attempt has taken the training over.
        """
        store, position = self._log.store, snapshot.position
        content = {field: getattr(snapshot, field) for field in Snapshot.__slots__ if field != "position"}
        buffer = io.BytesIO()
        torch.save({"version": _VERSION, "position": asdict(position), **content}, buffer)
        name = f"{CHECKPOINT_FOLDER}/{position.epoch:05d}-{position.step:07d}-{uuid.uuid4().hex[:8]}.pt"
        store.put_object(name, buffer.getvalue())
        self._log.append_record(
            self._attempt,
            "checkpoint",
            position=[position.epoch, position.step],
            file=name,
            best=best,
            history=list(history),
        )
        self.written_at = time.monotonic()
        self._remove_old()

    def _remove_old(self) -> None:
        store, kept = self._log.store, self._log.state.files
        for name in store.list_sizes(CHECKPOINT_FOLDER):
            if name not in kept:
                store.delete_object(name)


def read_snapshot(store: Store, name: str) -> Snapshot:
    """Read a checkpoint; code in it is never run.

    Raises:
        CorruptionError: If it is gone, or damaged.
    """
    try:
        content = torch.load(io.BytesIO(store.read_object(name)), map_location="cpu", weights_only=True)
        return Snapshot(
            position=Position(**content.pop("position")),
            **{key: value for key, value in content.items() if key in Snapshot.__slots__},
        )
    except FileNotFoundError:
        raise CorruptionError(f"{store.root}/{name} is missing: the log names this checkpoint") from None
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CorruptionError(f"{store.root}/{name}: expected a checkpoint; {str(error).splitlines()[0]}") from None
