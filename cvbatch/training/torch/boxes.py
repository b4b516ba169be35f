"""What all detectors share when they learn: examples, answers, and COCO's metrics of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cvbatch.errors import JobError
from cvbatch.evaluation.coco_evaluator import BOXES, ObjectPair
from cvbatch.evaluation.object_metrics import measure_objects
from cvbatch.evaluation.predicted_objects import PredictedObjects
from cvbatch.images.decode import DecodedImage
from cvbatch.images.preprocess import Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.training import box_targets
from cvbatch.training.torch.base import CachedHead, ImagePlace, TaskContext
from cvbatch.training.torch.losses import LossParts
from cvbatch.training.torch.moves import Pixels, move_image
from cvbatch.training.torch.networks import LearningNetwork
from cvbatch.truth.objects import ObjectTruth


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueBoxes:
    """The boxes of an image in pixels of its oriented original, and all that is needed to judge answers."""

    image: int
    """Its `row_id`."""
    size: Size
    """(width, height) of the original."""
    boxes: npt.NDArray[np.float32]
    """(n, 4): corners."""
    label_ids: npt.NDArray[np.int32]
    """(n,)"""
    crowds: npt.NDArray[np.bool_]
    """(n,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxExample:
    """One image and what a network shall find in it."""

    pixels: Pixels
    boxes: Tensor
    """(n, 4): corners in pixels of the view; float32. Those that stand for many objects are not among them."""
    label_ids: Tensor
    """(n,), int64, from 1 on."""
    truth: TrueBoxes


class BoxLearning(ABC):
    """A detector that learns; see `TrainingTask`.

    Args:
        context: What is learned.

    Raises:
        JobError: If an option does not belong to detection.
    """

    metric = "AP"

    def __init__(self, context: TaskContext) -> None:
        loss = context.job.loss
        for name, is_set in (("label_smoothing", loss.label_smoothing > 0), ("class_weights", loss.class_weights)):
            if is_set:
                raise JobError(f"loss.{name}: belongs to tasks with one class for each image or pixel: leave it out")
        self.device = context.device
        self.localisation = loss.localisation
        """λ, the weight of the localisation loss."""
        self.spec: ModelSpec = replace(context.plan.start, categories=context.plan.categories)
        self._names = tuple(str(name) for name in context.plan.categories[1:])

    @abstractmethod
    def collate(self, examples: Sequence[BoxExample]) -> tuple[Any, Sequence[BoxExample]]:
        """Inputs of the network on the device, and the examples."""

    @abstractmethod
    def compute_loss(self, module: nn.Module, inputs: Any, targets: Sequence[BoxExample]) -> LossParts:
        """See `TrainingTask.compute_loss`."""

    @abstractmethod
    def detect(self, module: nn.Module, inputs: Any, targets: Sequence[BoxExample]) -> Sequence[BoxAnswer]:
        """The answers to a batch, in pixels of the originals."""

    def make_example(self, decoded: DecodedImage, target: Any, place: ImagePlace) -> BoxExample:
        """The pixels of the view, and the boxes that are still visible in it."""
        truth = TrueBoxes(
            image=place.image,
            size=(decoded.width, decoded.height),
            boxes=np.array(target[box_targets.BOXES], np.float32).reshape(-1, 4),
            label_ids=np.array(target[box_targets.LABELS], np.int32),
            crowds=np.array(target[box_targets.CROWDS], np.bool_),
        )
        moved = move_image(decoded, self.spec.view, place)
        single = ~truth.crowds
        boxes, kept = moved.move.boxes(truth.boxes[single])
        label_ids = torch.from_numpy(truth.label_ids[single].astype(np.int64))[kept]
        return BoxExample(pixels=moved.pixels, boxes=boxes, label_ids=label_ids, truth=truth)

    def answer(self, module: nn.Module, inputs: Any, targets: Sequence[BoxExample]) -> Mapping[str, Any]:
        """What the network finds, and the truth, each with one row for each object; and the sizes of the images."""
        found = self.detect(module, inputs, targets)
        truths = [example.truth for example in targets]
        images = np.array([truth.image for truth in truths])
        return {
            "images": images,
            "sizes": np.array([truth.size for truth in truths], np.int32),
            "true_image": np.repeat(images, [len(truth.label_ids) for truth in truths]),
            "true_box": np.concatenate([truth.boxes for truth in truths]),
            "true_label": np.concatenate([truth.label_ids for truth in truths]),
            "crowd": np.concatenate([truth.crowds for truth in truths]),
            "image": np.repeat(images, [len(boxes.label_ids) for boxes in found]),
            "box": np.concatenate([boxes.boxes.reshape(-1, 4) for boxes in found]),
            "label": np.concatenate([boxes.label_ids for boxes in found]),
            "score": np.concatenate([boxes.scores for boxes in found]),
        }

    def score(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, float | None]:
        """COCO's metrics of boxes."""
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        values = measure_objects(self._pair_of(joined), np.arange(len(self._names)), BOXES).values(None)
        return {name: values[name] for name in (self.metric, "AP50", "AP75", "AR100") if name in values}

    def cached_head(self, network: LearningNetwork) -> CachedHead | None:
        """None: a detector has several heads, and features of whole images are too large to keep."""
        return None

    def _pair_of(self, joined: Mapping[str, npt.NDArray[Any]]) -> ObjectPair:
        """Truth and answers; images are numbered anew."""
        images = np.argsort(joined["images"], kind="stable")
        ordered = joined["images"][images]
        boxes = joined["true_box"].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        truth = ObjectTruth(
            source="truth",
            layout="boxes",
            image_names=[str(image) for image in ordered.tolist()],
            categories=self._names,
            image_indices=np.searchsorted(ordered, joined["true_image"]),
            labels=joined["true_label"].astype(np.int64) - 1,
            boxes=boxes,
            is_crowd=joined["crowd"],
        )
        order = np.lexsort((-joined["score"], joined["image"]))
        predicted = PredictedObjects(
            image_indices=np.searchsorted(ordered, joined["image"][order]).astype(np.int32),
            labels=joined["label"][order].astype(np.int32) - 1,
            scores=joined["score"][order].astype(np.float32),
            boxes=joined["box"][order].astype(np.float32),
        )
        return ObjectPair(
            truth=truth, predicted=predicted, images=np.arange(len(ordered)), sizes=joined["sizes"][images]
        )
