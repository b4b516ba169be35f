"""The way of a training in a worker: stages, epochs, steps, validation and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from cvbatch.errors import HaltError
from cvbatch.training.log import Position
from cvbatch.training.order import steps_of_epoch
from cvbatch.training.torch.checkpoints import LEAST_SECONDS, Snapshot, read_snapshot
from cvbatch.training.torch.losses import combine_parts
from cvbatch.training.torch.optimisers import set_learning_mode
from cvbatch.training.torch.reporting import ProgressReporter
from cvbatch.training.torch.setup import LearningSetup, StageRun
from cvbatch.training.torch.sums import Clock, EpochSums, LossWatch, as_numbers

_STEP: Final = 2
"""Distinguishes this use of a seed from others."""


class TrainingLoop:
    """One worker's part of a training, from its last checkpoint to its end.

    Args:
        setup: Everything that it needs.
    """

    def __init__(self, setup: LearningSetup) -> None:
        self._setup, self._job = setup, setup.job
        self._steps = steps_of_epoch(setup.plan.trained, self._job.batch_size)
        self._state = setup.log.state
        self._best: Mapping[str, Any] | None = self._state.best
        self._best_weights: Mapping[str, Tensor] | None = None
        self._history: list[Mapping[str, Any]] = []
        self._sums = EpochSums()
        self._watch = LossWatch()
        self._stopping = False
        self._reporter = ProgressReporter(setup, self._steps)
        self._snapshot = self._resume()

    def run(self) -> bool:
        """Learn; returns False if it was asked to stop before the end.

        Raises:
            HaltError: If the loss diverges.
        """
        position = self._state.position
        while position.epoch < self._job.epochs and not self._has_stalled(position.epoch):
            stage = self._setup.start_stage(position.epoch, self._snapshot)
            self._snapshot = None
            first, last = stage.epochs
            for epoch in range(max(first, position.epoch), last):
                step = position.step if epoch == position.epoch else 0
                if not self._learn_epoch(stage, epoch, step):
                    return False
                self._end_epoch(stage, epoch)
                position = Position(epoch + 1, 0)
                if self._has_stalled(position.epoch):
                    break
                if self._stopping and position.epoch < self._job.epochs:
                    return False
        return True

    def _learn_epoch(self, stage: StageRun, epoch: int, first_step: int) -> bool:
        """Learn the steps of an epoch; False if it was asked to stop."""
        set_learning_mode(stage.module_of_network, stage.config.batch_norms)
        clock = Clock()
        waited = self._setup.reader.waited
        batches = stage.batches.iter_learned(epoch, first_step)
        for step, (inputs, targets) in enumerate(batches, start=first_step):
            loss = self._learn_step(stage, epoch, step, inputs, targets)
            waited, before = self._setup.reader.waited, waited
            self._sums.seconds += clock.read()
            self._sums.waited += waited - before
            rate = stage.rate
            self._sums.add_point(epoch * self._steps + step + 1, self._steps, sum(loss.values()), rate)
            self._stopping |= self._reporter.tell(epoch, step + 1, self._sums, loss, rate, self._best)
            is_boundary = (step + 1) % stage.config.accumulate == 0
            if step + 1 < self._steps and is_boundary and (self._stopping or self._is_checkpoint_due()):
                self._write_checkpoint(Position(epoch, step + 1), stage)
                if self._stopping:
                    return False
        return True

    def _learn_step(self, stage: StageRun, epoch: int, step: int, inputs: Any, targets: Any) -> dict[str, float]:
        group, config = self._setup.group, stage.config
        number = epoch * self._steps + step
        torch.manual_seed(_seed_of(self._job.seed, number, group.rank))
        with self._setup.autocast():
            parts = self._setup.task.compute_loss(stage.batches.module, inputs, targets)
        loss = combine_parts(parts, group)
        numbers = as_numbers(loss.parts)
        self._refuse_divergence(sum(numbers.values()), epoch, step)
        self._setup.scaler.scale(loss.share / config.accumulate).backward()  # type: ignore[no-untyped-call]
        if (step + 1) % config.accumulate == 0 or step + 1 == self._steps:
            stage.apply_gradients(
                group, self._setup.scaler, (epoch - stage.epochs[0]) * self._steps + step, self._steps
            )
            if self._setup.average is not None:
                self._setup.average.update(stage.module_of_network)
        self._sums.add_step(numbers, len(targets) * group.size)
        return numbers

    def _refuse_divergence(self, loss: float, epoch: int, step: int) -> None:
        problem = self._watch.check(loss)
        if problem is None:
            return
        number, _ = self._job.stage_of(epoch)
        kept = "no epoch had ended before"
        if self._best is not None:
            kept = f"epoch {self._best['epoch']} with {self._setup.task.metric} {self._best['metric']:.4g} is kept"
        raise HaltError(
            f"the loss {problem} in epoch {epoch + 1}, step {step + 1}; {kept}: lower stages.{number}.rate "
            f"({self._job.stages[number].rate:g}), or set stages.{number}.clip=1, and choose another output"
        )

    def _end_epoch(self, stage: StageRun, epoch: int) -> None:
        """Validate, keep the weights if they are the best, and write a checkpoint."""
        self._reporter.tell_phase("validating", epoch, self._sums)
        scores = self._validate(stage)
        metric = scores[self._setup.task.metric] or 0.0
        sums, self._sums = self._sums, EpochSums()
        row = {
            "epoch": epoch + 1,
            "stage": self._job.stage_of(epoch)[0],
            "steps": (epoch + 1) * self._steps,
            "loss": sums.mean_loss(),
            "metric": metric,
            "scores": dict(scores),
            "rate": stage.rate,
            "seconds": sums.seconds,
            "images_per_second": sums.images / max(sums.seconds, 1e-9),
            "waiting": sums.waited / max(sums.seconds, 1e-9),
            "points": sums.points,
        }
        self._history.append(row)
        if self._best is None or metric > self._best["metric"]:
            self._best = {"epoch": epoch + 1, "metric": metric, "scores": dict(scores)}
            self._best_weights = {key: value.clone() for key, value in self._setup.kept_weights().items()}
        is_last_of_stage = epoch + 1 == stage.epochs[1] or self._has_stalled(epoch + 1)
        if is_last_of_stage or self._stopping or self._setup.writer.age > LEAST_SECONDS:
            self._write_checkpoint(Position(epoch + 1, 0), None if is_last_of_stage else stage)

    def _validate(self, stage: StageRun) -> Mapping[str, float | None]:
        task, answers = self._setup.task, list[Mapping[str, Any]]()
        with torch.no_grad(), self._setup.averaged_weights(), self._setup.autocast():
            stage.module_of_network.eval()
            answers += [
                task.answer(stage.batches.module, inputs, targets)
                for inputs, targets in stage.batches.iter_validated()
                if len(targets)
            ]
        gathered = self._setup.group.gather(answers)
        return task.score([answer for share in gathered for answer in share])

    def _is_checkpoint_due(self) -> bool:
        return self._setup.is_first and self._setup.writer.age > 60 * self._job.compute.checkpoint_minutes

    def _write_checkpoint(self, position: Position, stage: StageRun | None) -> None:
        if not self._setup.is_first:
            return
        average = self._setup.average
        snapshot = Snapshot(
            position=position,
            weights=self._setup.network.module.state_dict(),
            optimizer=None if stage is None else stage.state(self._setup.scaler),
            average=None if average is None else average.state,
            updates=0 if average is None else average.updates,
            sums=self._sums.to_json() if position.step else None,
        )
        if self._best is not None and self._best_weights is not None:
            self._best = {**self._best, **self._setup.writer.write_weights(self._best_weights, self._best["epoch"])}
            self._best_weights = None
        history, self._history = self._history, []
        self._setup.writer.write_checkpoint(snapshot, history, self._best)

    def _has_stalled(self, epoch: int) -> bool:
        """Whether early stopping ends the training before an epoch."""
        patience = self._job.early_stopping
        return patience is not None and self._best is not None and epoch - self._best["epoch"] >= patience

    def _resume(self) -> Snapshot | None:
        """Take the weights of the newest checkpoint, if there is one."""
        if self._state.checkpoint is None:
            return None
        snapshot = read_snapshot(self._setup.log.store, self._state.checkpoint)
        self._setup.network.module.load_state_dict(snapshot.weights)
        if self._setup.average is not None and snapshot.average is not None:
            self._setup.average.load(snapshot.average, snapshot.updates)
        if snapshot.sums is not None:
            self._sums = EpochSums(**dict(snapshot.sums))  # type: ignore[arg-type]
        return snapshot


def _seed_of(seed: int, step: int, rank: int) -> int:
    """A seed of torch for the random numbers of a step, such as those of dropout."""
    return int(np.random.SeedSequence((seed, _STEP, step, rank)).generate_state(1, np.uint64)[0] >> 1)
