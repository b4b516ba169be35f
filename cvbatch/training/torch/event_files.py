"""TensorBoard: `tensorboard --logdir OUTPUT/tensorboard`."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import CvbatchError
from cvbatch.output.store import Store
from cvbatch.system.extras import import_extra
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.trackers.base import TrackedNumber

FOLDER: Final = "tensorboard"


class EventFiles:
    """Writes one event file, which holds the whole training; each attempt writes it anew, so nothing is there twice.

    Args:
        store: The output; the file is replaced in it after each epoch.
        plan: Of the training.

    Raises:
        UsageError: If TensorBoard is not installed.
    """

    known_epochs: int = 0
    errors: tuple[type[Exception], ...] = (CvbatchError, OSError)

    def __init__(self, store: Store, plan: TrainingPlan) -> None:
        import_extra("tensorboard", "tensorboard", "log: tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._store = store
        self._name = f"{FOLDER}/events.out.tfevents.{int(plan.created_at)}.cvbatch"
        self._folder = tempfile.mkdtemp(prefix="cvbatch-events-")
        self._writer = SummaryWriter(self._folder)
        self._discard = weakref.finalize(self, _discard, self._writer, self._folder)

    def add_numbers(self, numbers: Sequence[TrackedNumber]) -> None:
        """See `Tracker`."""
        for number in numbers:
            self._writer.add_scalar(number.name, number.value, number.step, walltime=number.time)
        self._writer.flush()
        (file,) = Path(self._folder).iterdir()
        self._store.put_object(self._name, file.read_bytes())

    def close(self, files: Mapping[str, bytes]) -> None:
        """See `Tracker`; TensorBoard shows numbers alone."""
        self._discard()


def _discard(writer: Any, folder: str) -> None:
    writer.close()
    shutil.rmtree(folder, ignore_errors=True)
