"""Learning to classify: cross-entropy, and top-1 accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from cvbatch.evaluation.bootstrap import plain_number
from cvbatch.evaluation.class_metrics import NOT_RANKED, LabelledImages, count_confusion, report_classes, top_accuracy
from cvbatch.images.decode import DecodedImage
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.inference.torch.torchvision_models import embedding_head
from cvbatch.training.changes import draw_change
from cvbatch.training.torch.base import CachedHead, ImagePlace, TaskContext
from cvbatch.training.torch.class_weights import class_weights
from cvbatch.training.torch.losses import LossParts, best_labels, label_loss, soft_label_loss
from cvbatch.training.torch.moves import INTERPOLATIONS, change_colours
from cvbatch.training.torch.networks import LearningNetwork

LABEL_LOSS: Final = "classes"
"""Name of the part of the loss."""
Image = npt.NDArray[np.uint8]


def make_task(context: TaskContext) -> ClassificationTask:
    """See `TrainingTask`."""
    return ClassificationTask(context)


class ClassificationTask:
    """One class for each image; see `TrainingTask`.

    Args:
        context: What is learned.

    Raises:
        JobError: If a class with a weight does not exist.
    """

    metric = "top-1"

    def __init__(self, context: TaskContext) -> None:
        self._view = context.plan.start.view
        self._device = context.device
        self._smoothing = context.job.loss.label_smoothing
        self._weights = class_weights(context)
        self._classes = len(context.plan.categories)
        self._normalize = BatchNormalizer(context.network.mean, context.network.std, context.device)

    def make_example(self, decoded: DecodedImage, target: Any, place: ImagePlace) -> tuple[Image, Any]:
        """The pixels of the view, and the class, or the shares of some classes."""
        if place.changes is None:
            pixels = apply_view(self._view, decoded.image, (decoded.width, decoded.height))
        else:
            pixels = changed_pixels(decoded, self._view, place)
        return pixels, target

    def collate(self, examples: Sequence[tuple[Image, Any]]) -> tuple[Tensor, Tensor]:
        """Normalised images, (images, 3, height, width), and classes, (images,), or shares as for `soft_label_loss`."""
        labels = _join_targets([target for _, target in examples], self._classes)
        batch = self._normalize([pixels for pixels, _ in examples])[: len(examples)]
        return batch, labels.to(self._device, non_blocking=True)

    def compute_loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> LossParts:
        """Cross-entropy of logits; GoogLeNet's and Inception's auxiliary heads do not take part."""
        loss = label_loss if targets.dim() == 1 else soft_label_loss
        return {LABEL_LOSS: loss(module(inputs), targets, self._weights, self._smoothing)}

    def answer(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """For each image the true class, the best class and its score, the rank of the truth and its loss."""
        shares = torch.softmax(module(inputs).float(), dim=1)
        score, best = shares.max(dim=1)
        targets = best_labels(targets)
        true_share = shares.gather(1, targets[:, None])
        return {
            "truth": targets.cpu().numpy(),
            "predicted": best.cpu().numpy(),
            "score": score.cpu().numpy(),
            "rank": (shares > true_share).sum(dim=1).cpu().numpy(),
            "loss": -true_share[:, 0].clamp(min=torch.finfo(torch.float32).tiny).log().cpu().numpy(),
        }

    def score(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, float | None]:
        """Accuracy, the mean recall of the classes, and the mean loss."""
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        images = LabelledImages(
            truth=joined["truth"].astype(np.int32),
            predicted=joined["predicted"].astype(np.int32),
            ranks=np.minimum(joined["rank"], NOT_RANKED).astype(np.int8),
            scores=joined["score"].astype(np.float32),
        )
        report = report_classes(count_confusion(images))
        return {
            self.metric: plain_number(top_accuracy(images, 1).value),
            "balanced accuracy": plain_number(report.balanced_accuracy.value),
            "loss": plain_number(joined["loss"].mean()),
        }

    def cached_head(self, network: LearningNetwork) -> CachedHead | None:
        """The last linear layer, if it alone is the head."""
        layer = embedding_head(network.module)
        own = {name for name, _ in network.module.named_parameters()} & network.head
        of_layer = {id(parameter) for parameter in layer.module.parameters()}
        is_alone = all(id(network.module.get_parameter(name)) in of_layer for name in own)
        if layer.spatial or not is_alone:
            return None
        return CachedHead(head=layer.module, inputs=_HeadInputs(network.module, layer.module))


def _join_targets(targets: Sequence[Any], classes: int) -> Tensor:
    """(images,) classes; or (images, classes) shares, with NaN where they are not known."""
    if not isinstance(targets[0], Mapping):
        return torch.tensor(targets, dtype=torch.int64)
    shares = torch.full((len(targets), classes), torch.nan)
    for row, target in zip(shares, targets, strict=True):
        row[target["label_ids"]] = torch.tensor(target["shares"])
    return shares


class _HeadInputs(nn.Module):
    """A network that returns what its head gets."""

    def __init__(self, module: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self._module, self._head = module, head
        self._inputs: Tensor | None = None

    def forward(self, batch: Tensor) -> Tensor:
        """Return features, (batch, dimension)."""
        hook = self._head.register_forward_pre_hook(self._store)
        try:
            self._module(batch)
        finally:
            hook.remove()
        assert self._inputs is not None, "the head is a part of the network"
        features, self._inputs = self._inputs, None
        return features

    def _store(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = inputs[0]


def changed_pixels(decoded: DecodedImage, view: View, place: ImagePlace) -> Image:
    """An image with the changes of its epoch, in the size of the view.

    Args:
        decoded: The image; perhaps smaller than the original.
        view: Has a crop.
        place: With changes.
    """
    assert place.changes is not None, "validation images stay as they are"
    image = decoded.image
    change = draw_change(place.changes, image.size, place.seed, place.epoch, place.image)
    size = list(view.crop) if view.crop is not None else [image.height, image.width]
    mode = INTERPOLATIONS[view.interpolation]
    changed = functional.resized_crop(image, change.top, change.left, change.height, change.width, size, mode)
    if change.flip:
        changed = functional.horizontal_flip(changed)
    return np.asarray(change_colours(changed, place.changes, change))
