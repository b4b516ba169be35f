"""The boxes that NanoDet-g gives, in pixels of the originals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from cvbatch.images.preprocess import Size, boxes_to_original
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.nanodet import cell_centres, expected_boxes
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS, output_checks
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, score_threshold

THRESHOLD: Final = 0.05
"""Score below which boxes are dropped, unless the job says another; as torchvision's detectors do."""
_OVERLAP: Final = 0.6
"""Intersection over union from which the weaker of two boxes of one class is dropped; NanoDet's own."""
_MOST_BOXES: Final = 100
"""Of an image; COCO's metrics count no more."""
_FIRST_CANDIDATES: Final = 500
"""Of an image, whose overlaps are looked at first; the work grows with the square."""
_MOST_CANDIDATES: Final = 3000
"""Of an image, before overlapping ones are dropped; NanoDet takes 1,000 of each of three levels."""


class NanoDetNetwork:
    """NanoDet-g.

    Args:
        module: A `nanodet.NanoDet` on its device.
        batch: Makes batches with the normalization of the weights.
    """

    def __init__(self, module: nn.Module, batch: BatchNormalizer) -> None:
        self._module, self._batch = module, batch

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        batch = self._batch(images)
        logits, distances = self._module(batch)
        outputs = NanoDetOutputs(logits, distances, (batch.shape[2], batch.shape[3]), sizes)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class NanoDetOutputs:
    """Outputs for a batch, which may be padded with further images.

    Args:
        logits: Of the classes, (images, cells, classes).
        distances: Logits of the distances, (images, cells, 4, bins).
        frame: (height, width) of the batch, in pixels.
        sizes: (width, height) of each oriented original.
    """

    def __init__(self, logits: Tensor, distances: Tensor, frame: tuple[int, int], sizes: Sequence[Size]) -> None:
        self._logits, self._distances, self._sizes = logits, distances, sizes
        self._centres, self._strides = cell_centres(*frame, logits.device)

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The boxes of each image."""
        return [self._boxes_of_image(model, index, size) for index, size in enumerate(self._sizes)]

    def _boxes_of_image(self, model: ModelFacts, index: int, size: Size) -> BoxAnswer:
        logits = self._logits[index].float()
        if not logits.sum().isfinite():
            raise output_checks.invalid_output_error(model, "expected finite scores, got NaN or infinity")
        threshold = score_threshold(model, THRESHOLD)
        cells, classes = (logits >= _lowest_logit(threshold)).nonzero(as_tuple=True)
        scores = logits[cells, classes].sigmoid()
        enough = scores >= threshold
        cells, classes, scores = cells[enough], classes[enough], scores[enough]
        if len(scores) > _MOST_CANDIDATES:
            scores, best = scores.topk(_MOST_CANDIDATES)
            cells, classes = cells[best], classes[best]
        used, position = torch.unique(cells, return_inverse=True)  # most cells are candidates of several classes
        in_frame = expected_boxes(self._distances[index, used], self._centres[used], self._strides[used])
        boxes = boxes_to_original(model.view, size, to_numpy(in_frame[position]))
        label_ids, ranked = classes.cpu().numpy(), to_numpy(scores)
        order = np.argsort(-ranked, kind="stable")
        order = order[(boxes[order, :2] < boxes[order, 2:]).all(axis=1)]
        chosen = order[_without_overlaps(boxes[order], ranked[order], label_ids[order])]
        first_class = int(model.categories[0] is None)  # own categories begin with a background, as all detectors' do
        return BoxAnswer(
            boxes=boxes[chosen],
            label_ids=label_ids[chosen] + first_class,
            scores=ranked[chosen],
        )


def _lowest_logit(threshold: float) -> float:
    """A logit below that of a score, so that few others need a sigmoid."""
    share = min(threshold, 1 - 1e-6)
    return math.log(share / (1 - share)) - 0.01 if share > 0 else -math.inf


def _without_overlaps(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], label_ids: npt.NDArray[Any]
) -> npt.NDArray[np.intp]:
    """Positions of the best boxes, none of which overlaps a better one of its class.

    Only better boxes drop a box, so the first ones are enough if enough of them stay.

    Args:
        boxes: (n, 4), best first.
        scores: (n,)
        label_ids: (n,)
    """
    shifts = label_ids[:, None] * (boxes.max(initial=0) + 1.0)  # classes lie apart; in double precision, to the bit
    apart, ranked = torch.from_numpy(boxes + shifts), torch.from_numpy(scores.astype(np.float64))
    for count in (_FIRST_CANDIDATES, len(apart)):
        kept: npt.NDArray[np.intp] = nms(apart[:count], ranked[:count], _OVERLAP).numpy()
        if len(kept) >= _MOST_BOXES or count >= len(apart):
            break
    return kept[:_MOST_BOXES]
