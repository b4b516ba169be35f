"""The progress that the first worker writes into the output, and the request to stop that it finds there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from cvbatch.errors import CvbatchError
from cvbatch.training.progress import PROGRESS, PROGRESS_FILE, TrainingProgress, is_stop_requested
from cvbatch.training.torch.sums import EpochSums

if TYPE_CHECKING:
    from cvbatch.training.torch.setup import LearningSetup

_SECONDS: Final = 1.0
"""Between two progress records, and between two looks for a request to stop."""


class ProgressReporter:
    """Writes the progress of a worker.

    Args:
        setup: Of the worker.
        steps: Of an epoch.
    """

    def __init__(self, setup: LearningSetup, steps: int) -> None:
        self._setup, self._steps = setup, steps
        self._told_at = 0.0
        self._scores: Mapping[str, float | None] = {}

    def tell(
        self,
        epoch: int,
        step: int,
        sums: EpochSums,
        loss: Mapping[str, float],
        rate: float,
        best: Mapping[str, Any] | None,
    ) -> bool:
        """Tell about a step, not more often than once a second; returns whether the worker shall stop.

        Args:
            epoch: From 0 on.
            step: Finished steps of the epoch.
            sums: Of the epoch.
            loss: Of the step.
            rate: Of the head.
            best: The best epoch so far.
        """
        stopping = False
        if self._setup.is_first and time.monotonic() - self._told_at > _SECONDS:
            self._told_at = time.monotonic()
            self._write(epoch, step, sums, loss, rate, best, "learning")
            stopping = is_stop_requested(self._setup.log.store, self._setup.attempt)
        if self._setup.group.size == 1:
            return stopping
        return bool(self._setup.group.add_up(torch.tensor([float(stopping)])).item())

    def tell_phase(self, phase: str, epoch: int, sums: EpochSums) -> None:
        """Tell that something else than learning is going on."""
        if self._setup.is_first:
            self._write(epoch, self._steps, sums, {}, 0.0, None, phase)

    def _write(
        self,
        epoch: int,
        step: int,
        sums: EpochSums,
        loss: Mapping[str, float],
        rate: float,
        best: Mapping[str, Any] | None,
        phase: str,
    ) -> None:
        done, total = epoch * self._steps + step, self._setup.job.epochs * self._steps
        seconds = max(sums.seconds, 1e-9)
        progress = TrainingProgress(
            attempt=self._setup.attempt,
            epoch=epoch + 1,
            epochs=self._setup.job.epochs,
            step=done,
            steps=total,
            loss=loss or sums.mean_loss(),
            rate=rate,
            scores={} if best is None else best["scores"],
            images_per_second=sums.images / seconds,
            waiting=sums.waited / seconds,
            seconds_remaining=(total - done) * seconds / sums.steps if sums.steps else None,
            phase=phase,
        )
        with contextlib.suppress(CvbatchError, OSError):  # the training can go on without it
            self._setup.log.store.put_object(PROGRESS_FILE, PROGRESS.encode_record(progress))
