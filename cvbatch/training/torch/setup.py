"""Everything that a worker needs before its first step, and what a stage needs."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from cvbatch.config.train_job import NO_CHANGES, LearningStage, TrainJob
from cvbatch.engine.training_workers import WorkerPlace
from cvbatch.inference.loading import probe_model
from cvbatch.inference.torch.tensors import DTYPES
from cvbatch.system.control_group import usable_cores
from cvbatch.training.log import TrainingLog
from cvbatch.training.order import steps_of_epoch
from cvbatch.training.plan import TrainingPlan, planned_sides, read_planned_images
from cvbatch.training.start import has_own_head
from cvbatch.training.targets import TARGET_KINDS
from cvbatch.training.torch.base import TaskContext, TrainingTask
from cvbatch.training.torch.batches import MOST_FEATURE_BYTES, BatchSource, FeatureBatches, ImageBatches, Sides
from cvbatch.training.torch.checkpoints import CheckpointWriter, Snapshot
from cvbatch.training.torch.examples import ExampleReader
from cvbatch.training.torch.networks import LearningNetwork, build_network, set_dropout
from cvbatch.training.torch.optimisers import (
    HEAD,
    WeightAverage,
    freeze_others,
    learning_names,
    make_optimizer,
    rate_factor,
    set_rates,
)
from cvbatch.training.torch.workers import WorkerGroup, share_batch_norms


@dataclass(slots=True)
class StageRun:
    """A stage that is being learned."""

    config: LearningStage
    epochs: tuple[int, int]
    """First epoch, and the one after the last."""
    module_of_network: nn.Module
    batches: BatchSource
    optimizer: torch.optim.Optimizer

    @property
    def rate(self) -> float:
        """Rate of the head; of the others if the head does not learn."""
        groups = sorted(self.optimizer.param_groups, key=lambda group: group["part"] != HEAD)
        return float(groups[0]["lr"])

    def apply_gradients(self, group: WorkerGroup, scaler: torch.amp.GradScaler, step: int, steps_of_epoch: int) -> None:
        """Change the weights by the gradients of all workers.

        Args:
            group: The workers.
            scaler: Of half precision.
            step: From 0 on, in the stage.
            steps_of_epoch: Steps of each epoch.
        """
        set_rates(self.optimizer, rate_factor(self.config, step, self.config.epochs * steps_of_epoch))
        parameters = [parameter for part in self.optimizer.param_groups for parameter in part["params"]]
        group.add_up_gradients(parameters)
        scaler.unscale_(self.optimizer)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.config.clip)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self, scaler: torch.amp.GradScaler) -> dict[str, Any]:
        """What a checkpoint keeps of the stage."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict()}


class LearningSetup:
    """Network, data and log of one worker.

    Args:
        job: The training.
        plan: Its plan.
        log: Its log.
        attempt: Number of the attempt.
        place: Where this worker works.
    """

    def __init__(self, job: TrainJob, plan: TrainingPlan, log: TrainingLog, attempt: int, place: WorkerPlace) -> None:
        self.job, self.plan, self.log, self.attempt = job, plan, log, attempt
        self._device = place.device
        self.group = WorkerGroup(place.rank, place.workers)
        self.writer = CheckpointWriter(log, attempt)
        self.network = _place_network(job, plan, self.group, place)
        self.task = _make_task(TaskContext(job=job, plan=plan, network=self.network, device=place.device))
        images = read_planned_images(log.store, plan)
        threads = max(2, usable_cores() // place.workers) if job.compute.readers == "auto" else job.compute.readers
        self.reader = ExampleReader(
            images, job.source, plan.start.view, self.task.make_example, seed=job.seed, threads=threads
        )
        learned, validated = planned_sides(images)
        self.sides = Sides(learned, validated, batch_size=job.batch_size, seed=job.seed, group=self.group)
        self.average = None if job.ema is None else WeightAverage(self.network.module, job.ema)
        is_half = job.compute.precision == "fp16"
        self.scaler = torch.amp.GradScaler(torch.device(place.device).type, enabled=is_half)

    @property
    def is_first(self) -> bool:
        """Whether this worker writes checkpoints and progress."""
        return self.group.rank == 0

    @cached_property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_of_epoch(self.plan.trained, self.job.batch_size)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the job."""
        dtype = DTYPES[self.job.compute.precision]
        kind = torch.device(self._device).type
        return cast(AbstractContextManager[Any], torch.autocast(kind, dtype, enabled=dtype != torch.float32))

    def kept_weights(self) -> Mapping[str, Tensor]:
        """The weights that are validated: averages if there are any."""
        return self.network.module.state_dict() if self.average is None else self.average.state

    @contextmanager
    def averaged_weights(self) -> Generator[None]:
        """Use the averaged weights inside the block, if there are any."""
        if self.average is None:
            yield
            return
        module = self.network.module
        own = {key: value.detach().clone() for key, value in module.state_dict().items()}
        module.load_state_dict(self.average.state)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def start_stage(self, epoch: int, snapshot: Snapshot | None) -> StageRun:
        """Prepare the stage of an epoch.

        Args:
            epoch: From 0 on.
            snapshot: The checkpoint that the stage goes on from; None at its start.
        """
        number, within = self.job.stage_of(epoch)
        config = self.job.stages[number]
        module = self.network.module
        freeze_others(module, learning_names(module, self.network.head, config.layers))
        optimizer = make_optimizer(module, self.network.head, config)
        if snapshot is not None and snapshot.optimizer is not None:
            optimizer.load_state_dict(snapshot.optimizer["optimizer"])
            self.scaler.load_state_dict(snapshot.optimizer["scaler"])
        first = epoch - within
        set_rates(optimizer, rate_factor(config, within * self.steps, config.epochs * self.steps))
        batches = self._batches_of_stage(number)
        return StageRun(config, (first, first + config.epochs), module, batches, optimizer)

    def _batches_of_stage(self, number: int) -> BatchSource:
        """Features that are computed once where that gives the same, else images."""
        changes = self.job.changes_in(number)
        images = ImageBatches(self.network.module, self.task, self.reader, self.sides, changes)
        if self.job.stages[number].layers != HEAD or changes != NO_CHANGES:
            return images
        cached = self.task.cached_head(self.network)
        if cached is None or not _gives_the_same(cached.head, cached.inputs, self.network.module, images, self.task):
            return images
        dimension = sum(parameter.shape[-1] for parameter in cached.head.parameters() if parameter.dim() == 2)
        if dimension * 4 * self.plan.trained > MOST_FEATURE_BYTES:
            return images
        return FeatureBatches(cached, images, self.sides, self.group)


def _gives_the_same(
    head: nn.Module, inputs: nn.Module, module: nn.Module, images: ImageBatches, task: TrainingTask
) -> bool:
    """Whether a head answers as the whole network does, for the first images."""
    with torch.no_grad():
        for batch, targets in _first(images.iter_validated()):
            module.eval()
            expected = task.answer(module, batch, targets)
            got = task.answer(head, inputs(batch), targets)
            return all(
                torch.allclose(torch.as_tensor(expected[name]).float(), torch.as_tensor(got[name]).float(), atol=1e-4)
                for name in expected
            )
    return True


def _first(batches: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    for batch in batches:
        yield batch
        return


def _place_network(job: TrainJob, plan: TrainingPlan, group: WorkerGroup, place: WorkerPlace) -> LearningNetwork:
    start = probe_model(plan.start)
    network = build_network(start, len(plan.categories), keep_head=has_own_head(start, plan.categories), seed=job.seed)
    set_dropout(network.module, job.dropout)
    share_batch_norms(network.module, group)
    network.module.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _make_task(context: TaskContext) -> TrainingTask:
    task: TrainingTask = importlib.import_module(TARGET_KINDS[context.job.task].trainer).make_task(context)
    return task
