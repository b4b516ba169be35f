"""How torchvision's detectors learn: they compute their losses themselves, as means over their part of a batch.

Of RetinaNet that is a mean over images, so that the parts of two workers add up to the whole. FCOS and SSD divide by
the number of matched anchors, which is counted here. R-CNNs divide by the number of sampled proposals, which is the
same for each image if there are enough of them; which ones are sampled is random, and differs between workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models import detection

from cvbatch.inference.torch.detector import DetectorOutputs
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.training.torch.base import TaskContext
from cvbatch.training.torch.boxes import BoxExample, BoxLearning
from cvbatch.training.torch.losses import LossPart, LossParts

_PARTS: Final = (
    ("loss_classifier", "classes", False),
    ("loss_box_reg", "boxes", True),
    ("loss_objectness", "objectness", False),
    ("loss_rpn_box_reg", "proposals", True),
    ("classification", "classes", False),
    ("bbox_regression", "boxes", True),
    ("bbox_ctrness", "centreness", False),
)
"""Each of torchvision's losses, our name, and whether it is one of localisation."""
_CODE_OF_DETECTORS: Final = "torchvision.models.detection"


class TorchvisionLearning(BoxLearning):
    """Faster R-CNN, RetinaNet, FCOS, SSD and SSDlite; see `TrainingTask`.

    Args:
        context: What is learned.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self._keeps_norms = context.plan.start.weights_path is not None
        self._matched = _MatchCounter(context.network.module)

    def collate(self, examples: Sequence[BoxExample]) -> tuple[list[Tensor], Sequence[BoxExample]]:
        """Images of any sizes, (3, height, width), from 0 to 1."""
        images = [torch.from_numpy(example.pixels.copy()).permute(2, 0, 1) for example in examples]
        return [image.to(self.device, torch.float32, non_blocking=True).div_(255) for image in images], examples

    def compute_loss(self, module: nn.Module, inputs: list[Tensor], targets: Sequence[BoxExample]) -> LossParts:
        """The losses of torchvision, those of localisation times λ."""
        _ask_for_losses(module)
        if self._keeps_norms:
            _keep_norms(module)
        wanted = [
            {"boxes": example.boxes.to(self.device), "labels": example.label_ids.to(self.device)} for example in targets
        ]
        losses: Mapping[str, Tensor] = module(inputs, wanted)
        weight = torch.tensor(float(self._matched.take(default=len(targets))), device=self.device)
        return {
            part: LossPart(losses[name] * weight, weight, self.localisation if is_localisation else 1.0)
            for name, part, is_localisation in _PARTS
            if name in losses
        }

    def detect(self, module: nn.Module, inputs: list[Tensor], targets: Sequence[BoxExample]) -> Sequence[BoxAnswer]:
        """See `BoxLearning.detect`."""
        results = module(inputs)
        shapes = [example.pixels.shape[:2] for example in targets]
        return DetectorOutputs(results, shapes, [example.truth.size for example in targets]).boxes(self.spec)


class _MatchCounter:
    """Counts the anchors that a network has matched with boxes, if it divides its losses by their number.

    Args:
        module: A detector; the function that computes its losses is wrapped.
    """

    def __init__(self, module: nn.Module) -> None:
        self._count: int | None = None
        owner: Any = module
        if isinstance(module, detection.FCOS):
            owner = module.head
        elif not isinstance(module, detection.ssd.SSD):
            return
        compute = owner.compute_loss

        def compute_and_count(targets: Any, outputs: Any, anchors: Any, matched: Sequence[Tensor]) -> Any:
            self._count = max(1, sum(int((indices >= 0).sum()) for indices in matched))
            return compute(targets, outputs, anchors, matched)

        owner.compute_loss = compute_and_count

    def take(self, default: int) -> int:
        """The number of the last batch; `default` for networks that do not divide by it."""
        count, self._count = self._count, None
        return default if count is None else count


def _ask_for_losses(module: nn.Module) -> None:
    """Let a detector return losses also if most of its layers are in evaluation mode, because they do not learn."""
    for part in module.modules():
        if type(part).__module__.startswith(_CODE_OF_DETECTORS):
            part.training = True


def _keep_norms(module: nn.Module) -> None:
    """Keep the statistics of trained weights: batches of detectors are too small for new ones."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.training = False
