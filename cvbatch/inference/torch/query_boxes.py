"""Boxes of detectors with queries, such as DETR: as the processors of transformers decode them, for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cvbatch.images.preprocess import Size
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.models.spec import ModelSpec
from cvbatch.models.transformers.reading import TransformersReading
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, score_threshold
from cvbatch.tasks.output_checks import invalid_output_error

THRESHOLD: Final = 0.05
"""Score below which boxes are dropped, unless the job says another; as for other detectors."""

Array = npt.NDArray[Any]
ReadOutputs = Callable[[Tensor, Tensor, Sequence[Size], TransformersReading], Any]
"""Makes what a task takes its answers from, of the scores and places of all queries, and the sizes of the originals."""


class QueryNetwork:
    """A network with queries, each of which gives scores and a place.

    Args:
        module: Maps a batch to the first two arguments of `read_outputs`.
        batch: Makes batches with the normalization of the network's weights.
        reading: How the scores are read.
        read_outputs: Makes the outputs for a batch; by default of boxes.
    """

    def __init__(
        self,
        module: nn.Module,
        batch: BatchNormalizer,
        reading: TransformersReading,
        read_outputs: ReadOutputs | None = None,
    ) -> None:
        self._module, self._batch, self._reading = module, batch, reading
        self._read_outputs = read_outputs or QueryOutputs

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image, so that none is padded and none needs a mask."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        scores, places = (output[: len(images)] for output in self._module(self._batch(images)))
        outputs = self._read_outputs(scores, places, sizes, self._reading)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class QueryOutputs:
    """Outputs for a batch.

    Args:
        logits: (images, queries, classes)
        boxes: (images, queries, 4): centre and size as fractions of the image.
        sizes: (width, height) of each oriented original.
        reading: How the scores are read.
    """

    def __init__(self, logits: Tensor, boxes: Tensor, sizes: Sequence[Size], reading: TransformersReading) -> None:
        self._sizes, self._square = sizes, reading.square
        self._threshold = THRESHOLD if reading.threshold is None else reading.threshold
        scores, label_ids, queries = _CANDIDATES[reading.activation](logits.float(), reading.most_boxes)
        corners = _to_corners(boxes.float()).gather(1, queries[:, :, None].expand(-1, -1, 4))
        self._scores, self._corners = to_numpy(scores), to_numpy(corners)
        self._label_ids: Array = label_ids.cpu().numpy()

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The boxes of each image, best first."""
        if not (np.isfinite(self._scores).all() and np.isfinite(self._corners).all()):
            raise invalid_output_error(model, "expected finite scores and boxes, got NaN or infinity")
        sizes = np.tile(np.array(self._sizes, np.float32), 2)[:, None]
        scale = sizes.max(axis=-1, keepdims=True) if self._square else sizes
        boxes = np.clip(self._corners * scale, 0, sizes)
        named = np.array([name is not None for name in model.categories])
        keep = named[self._label_ids] & (self._scores >= score_threshold(model, self._threshold))
        keep &= (boxes[..., :2] < boxes[..., 2:]).all(axis=-1)
        return [self._boxes_of_image(index, boxes[index], np.flatnonzero(keep[index])) for index in range(len(boxes))]

    def _boxes_of_image(self, index: int, boxes: Array, rows: Array) -> BoxAnswer:
        order = rows[np.argsort(-self._scores[index, rows], kind="stable")]
        return BoxAnswer(boxes=boxes[order], label_ids=self._label_ids[index, order], scores=self._scores[index, order])


def _best_of_queries(logits: Tensor, most: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, label ids and positions of all queries; the last class means that there is nothing.

    `DetrImageProcessor.post_process_object_detection` of transformers.
    """
    scores, label_ids = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    return scores, label_ids, torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)


def _best_of_all(logits: Tensor, most: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, label ids and positions of the best pairs of query and class.

    `RTDetrImageProcessor.post_process_object_detection` of transformers; that of Deformable DETR keeps 100.
    """
    count, classes = logits.shape[1:]
    scores, pairs = logits.flatten(1).sigmoid().topk(min(most or count, count * classes), dim=1)
    return scores, pairs % classes, pairs // classes


def _best_sigmoid_of_queries(logits: Tensor, most: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, label ids and positions of all queries, of which each class may be none.

    `GroundingDinoProcessor.post_process_grounded_object_detection` of transformers.
    """
    scores, label_ids = logits.max(dim=-1)
    return scores.sigmoid(), label_ids, torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)


def _to_corners(boxes: Tensor) -> Tensor:
    """Boxes of centre and size as x_min, y_min, x_max, y_max."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centres - halves, centres + halves], dim=-1)


_CANDIDATES: Final = {
    "softmax": _best_of_queries,
    "sigmoid": _best_of_all,
    "best_sigmoid": _best_sigmoid_of_queries,
}
