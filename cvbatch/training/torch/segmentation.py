"""Learning to segment: cross-entropy of each pixel, with that of the auxiliary head, and mean IoU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from cvbatch.errors import JobError
from cvbatch.evaluation.bootstrap import plain_number
from cvbatch.evaluation.segment_metrics import count_cells, segment_rates
from cvbatch.images.decode import DecodedImage
from cvbatch.inference.torch.segmenter import resize_to_label_map
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.training.map_targets import as_label_map, decode_map
from cvbatch.training.torch.base import CachedHead, ImagePlace, TaskContext
from cvbatch.training.torch.class_weights import class_weights
from cvbatch.training.torch.losses import LossParts, pixel_loss
from cvbatch.training.torch.moves import Pixels, move_image
from cvbatch.training.torch.networks import LearningNetwork
from cvbatch.truth.base import IGNORED

PIXEL_LOSS: Final = "pixels"
AUXILIARY_LOSS: Final = "auxiliary"
"""Names of the parts of the loss."""
_HEADS: Final = {"out": PIXEL_LOSS, "aux": AUXILIARY_LOSS}
"""Part of each output of torchvision's networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentExample:
    """One image and its label map."""

    pixels: Pixels
    labels: Tensor
    """(height, width) of the pixels."""
    truth: npt.NDArray[np.int64] | None
    """(height, width) of the original, for validation."""


@dataclass(frozen=True, slots=True)
class SegmentTargets:
    """Targets of a batch."""

    labels: Tensor
    """(images, height, width); `IGNORED` outside of an image."""
    examples: Sequence[SegmentExample]

    def __len__(self) -> int:
        return len(self.examples)


def make_task(context: TaskContext) -> SegmentationLearning:
    """See `TrainingTask`."""
    return SegmentationLearning(context)


class SegmentationLearning:
    """A class for each pixel; see `TrainingTask`.

    Args:
        context: What is learned.

    Raises:
        JobError: If a class with a weight does not exist, or batches are too small for the network's batch norms.
    """

    metric = "mIoU"

    def __init__(self, context: TaskContext) -> None:
        self._view = context.plan.start.view
        self._device = context.device
        self._classes = len(context.plan.categories)
        self._loss = context.job.loss
        self._weights = class_weights(context)
        self._normalize = BatchNormalizer(context.network.mean, context.network.std, context.device)
        if context.job.batch_size < 2:
            raise JobError("batch_size: expected at least 2 images, whose mean the batch norms take; got 1")

    def make_example(self, decoded: DecodedImage, target: Any, place: ImagePlace) -> SegmentExample:
        """The pixels of the view, and their classes."""
        truth = as_label_map(decode_map(target))
        moved = move_image(decoded, self._view, place)
        return SegmentExample(
            pixels=moved.pixels,
            labels=moved.move.label_map(truth),
            truth=truth if place.changes is None else None,
        )

    def collate(self, examples: Sequence[SegmentExample]) -> tuple[Tensor, SegmentTargets]:
        """Normalised images, (images, 3, height, width), filled up at the right and below with zeros."""
        height, width = (max(example.labels.shape[axis] for example in examples) for axis in (0, 1))
        images = [self._normalize([example.pixels]) for example in examples]
        batch = torch.cat([functional.pad(image, _margins(image, height, width)) for image in images])
        labels = torch.stack(
            [
                functional.pad(example.labels, _margins(example.labels, height, width), value=IGNORED)
                for example in examples
            ]
        )
        targets = SegmentTargets(labels.to(self._device, non_blocking=True), examples)
        return batch.contiguous(memory_format=torch.channels_last), targets

    def compute_loss(self, module: nn.Module, inputs: Tensor, targets: SegmentTargets) -> LossParts:
        """Mean cross-entropy over the pixels that count, for each head."""
        smoothing = self._loss.label_smoothing
        factors = {PIXEL_LOSS: 1.0, AUXILIARY_LOSS: self._loss.auxiliary}
        return {
            _HEADS[name]: pixel_loss(logits, targets.labels, self._weights, smoothing, factors[_HEADS[name]])
            for name, logits in module(inputs).items()
        }

    def answer(self, module: nn.Module, inputs: Tensor, targets: SegmentTargets) -> Mapping[str, Any]:
        """For each image (3 × classes) the pixels that agree, of the truth and of the answer, at its full size."""
        by_size = defaultdict[tuple[int, int], list[int]](list)
        for index, example in enumerate(targets.examples):
            by_size[example.pixels.shape[0], example.pixels.shape[1]].append(index)
        sums = np.zeros((len(targets), 3, self._classes), np.int64)
        for (height, width), indices in by_size.items():  # without what fills up, as in a run
            logits = module(inputs[indices, :, :height, :width])["out"]
            for index, of_image in zip(indices, logits.float(), strict=True):
                truth = targets.examples[index].truth
                assert truth is not None, "validation images stay as they are"
                predicted = resize_to_label_map(of_image, (truth.shape[1], truth.shape[0]))
                present, cells = count_cells(truth, predicted.astype(np.int64))
                sums[index][:, present] = np.stack([cells.diagonal(), cells.sum(axis=1), cells.sum(axis=0)])
        return {"pixels": sums}

    def score(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, float | None]:
        """Mean IoU over the classes that occur, and accuracies."""
        sums = sum(answer["pixels"].sum(axis=0) for answer in answers)
        rates = segment_rates(np.asarray(sums, np.float64).reshape(1, -1), self._classes)[0, -3:]
        names = (self.metric, "pixel accuracy", "mean accuracy")
        return {name: plain_number(rate) for name, rate in zip(names, rates, strict=True)}

    def cached_head(self, network: LearningNetwork) -> CachedHead | None:
        """None: features of whole images are too large to keep."""
        return None


def _margins(image: Tensor, height: int, width: int) -> list[int]:
    """What is missing at the right and below."""
    return [0, width - image.shape[-1], 0, height - image.shape[-2]]
