"""Where batches come from: images that are read anew each epoch, or features that are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cvbatch.config.train_job import AugmentConfig
from cvbatch.training.order import Ints, batches_of_epoch, share_of_worker
from cvbatch.training.torch.base import CachedHead, TrainingTask
from cvbatch.training.torch.examples import ExampleReader, ReadOrder, in_slices
from cvbatch.training.torch.workers import WorkerGroup

MOST_FEATURE_BYTES = 4 << 30
"""Features of more images are computed anew each epoch."""


class Sides:
    """Which images are learned from and which are for validation, and a worker's part of them.

    Args:
        learned: Positions of the images to learn from.
        validated: Positions of the images for validation.
        batch_size: Over all workers.
        seed: Of the job.
        group: The workers.
    """

    def __init__(
        self, learned: Sequence[int], validated: Sequence[int], *, batch_size: int, seed: int, group: WorkerGroup
    ) -> None:
        self.learned, self.validated = np.array(learned, np.int64), np.array(validated, np.int64)
        self._batch_size, self._seed, self._group = batch_size, seed, group

    def learned_batches(self, epoch: int, first_step: int) -> Ints:
        """(steps, images): this worker's positions in `learned` for the steps of an epoch from one on."""
        batches = batches_of_epoch(len(self.learned), self._batch_size, self._seed, epoch)[first_step:]
        return share_of_worker(batches, self._group.rank, self._group.size)

    def validated_share(self) -> Ints:
        """This worker's positions in `validated`."""
        return np.arange(len(self.validated))[self._group.rank :: self._group.size]

    @property
    def share_size(self) -> int:
        """Images in a worker's part of a batch."""
        return max(1, self._batch_size // self._group.size)


class BatchSource(Protocol):
    """Batches of a stage, and the module that takes them."""

    module: nn.Module

    def iter_learned(self, epoch: int, first_step: int) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets of this worker for the steps of an epoch."""

    def iter_validated(self) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets of this worker's validation images."""


class ImageBatches:
    """Batches of images; see `BatchSource`.

    Args:
        module: The network.
        task: Prepares examples.
        reader: Reads them.
        sides: Which images.
        changes: Of the stage.
    """

    def __init__(
        self, module: nn.Module, task: TrainingTask, reader: ExampleReader, sides: Sides, changes: AugmentConfig
    ) -> None:
        self.module = module
        self._task, self._reader, self._sides, self._changes = task, reader, sides, changes

    def iter_learned(self, epoch: int, first_step: int) -> Iterator[tuple[Any, Any]]:
        """See `BatchSource`."""
        batches = self._sides.learned[self._sides.learned_batches(epoch, first_step)]
        for examples in self._reader.read_batches(batches.tolist(), ReadOrder(epoch=epoch, changes=self._changes)):
            yield self._task.collate(examples)

    def iter_validated(self) -> Iterator[tuple[Any, Any]]:
        """See `BatchSource`."""
        yield from self.iter_plain(self._sides.validated[self._sides.validated_share()].tolist())

    def iter_plain(self, positions: Sequence[int]) -> Iterator[tuple[Any, Any]]:
        """Batches of some images without random changes."""
        slices = in_slices(positions, self._sides.share_size)
        for examples in self._reader.read_batches(slices, ReadOrder()):
            yield self._task.collate(examples)


class FeatureBatches:
    """Batches of features that were computed once; see `BatchSource`.

    Args:
        cached: The head and what computes its inputs.
        images: Batches of the same images.
        sides: Which images.
        group: The workers; each computes a part of the features.
    """

    def __init__(self, cached: CachedHead, images: ImageBatches, sides: Sides, group: WorkerGroup) -> None:
        self.module = cached.head
        self._sides = sides
        learned = sides.learned[group.rank :: group.size].tolist()
        self._learned = _interleave(group.gather(_compute_features(cached.inputs, images.iter_plain(learned))))
        validated = sides.validated[sides.validated_share()].tolist()
        self._validated = _compute_features(cached.inputs, images.iter_plain(validated))

    def iter_learned(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `BatchSource`."""
        features, targets = self._learned
        for batch in torch.from_numpy(self._sides.learned_batches(epoch, first_step).copy()):
            yield features[batch], targets[batch]

    def iter_validated(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `BatchSource`."""
        yield self._validated


def _compute_features(inputs: nn.Module, batches: Iterator[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
    features, targets = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for batch, labels in batches:
            features.append(inputs(batch).float())
            targets.append(labels)
    return torch.cat(features), torch.cat(targets)


def _interleave(shares: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Put together what each worker has of every n-th image."""
    if len(shares) == 1:
        return shares[0]
    count = sum(len(targets) for _, targets in shares)
    joined = []
    for part in (0, 1):
        first = shares[0][part]
        values = first.new_empty((count, *first.shape[1:]))
        for rank, share in enumerate(shares):
            values[rank :: len(shares)] = share[part].to(first.device)
        joined.append(values)
    return joined[0], joined[1]
