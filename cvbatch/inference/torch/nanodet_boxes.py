"""The boxes that NanoDet-g gives, in pixels of the originals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

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
        probabilities = self._logits[index].float().sigmoid()
        if not probabilities.isfinite().all():
            raise output_checks.invalid_output_error(model, "expected finite scores, got NaN or infinity")
        cells, classes = (probabilities >= score_threshold(model, THRESHOLD)).nonzero(as_tuple=True)
        scores = probabilities[cells, classes]
        if len(scores) > _MOST_CANDIDATES:
            scores, best = scores.topk(_MOST_CANDIDATES)
            cells, classes = cells[best], classes[best]
        in_frame = expected_boxes(self._distances[index, cells], self._centres[cells], self._strides[cells])
        boxes = boxes_to_original(model.view, size, to_numpy(in_frame))
        has_area = torch.from_numpy((boxes[:, :2] < boxes[:, 2:]).all(axis=1))
        kept = batched_nms(torch.from_numpy(boxes)[has_area], scores.cpu()[has_area], classes.cpu()[has_area], _OVERLAP)
        chosen = np.flatnonzero(has_area.numpy())[kept[:_MOST_BOXES].numpy()]
        first_class = int(model.categories[0] is None)  # own categories begin with a background, as all detectors' do
        return BoxAnswer(
            boxes=boxes[chosen],
            label_ids=classes.cpu().numpy()[chosen] + first_class,
            scores=to_numpy(scores)[chosen],
        )
