"""Detection networks: they resize images themselves, boxes are in pixels of the original, masks are pasted singly."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cvbatch.errors import ImageError
from cvbatch.images.preprocess import Size, boxes_to_original
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.tensors import to_device, to_numpy
from cvbatch.inference.torch.torchvision_compat import DETECTOR_HEADS, GeneralizedRCNNTransform, paste_masks_in_image
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, select_detections
from cvbatch.tasks.masks import encode_mask
from cvbatch.tasks.output_checks import INVALID

_INSIDE = 0.5
"""Probability from which a pixel belongs to a mask, as in the Mask R-CNN paper (arXiv:1703.06870, 3.1)."""

_PADDING = 0.15


class DetectorNetwork:
    """A torchvision detector.

    Args:
        module: Module on its device.
        device: Device that images are copied to.
        padded: Whether images of similar sizes share a batch.
    """

    def __init__(self, module: nn.Module, device: str, *, padded: bool = False) -> None:
        self._padded = padded
        self._transform = _SmallMaskTransform.from_transform(module.transform)
        module.transform = self._transform
        for name in DETECTOR_HEADS:
            if (head := dict(module.named_modules()).get(name)) is not None:
                head.register_forward_hook(_expect_finite_heads)
        self._module = module
        self._device = device

    def batch_key(self, image: Image) -> Hashable:
        """The size after the model's resizing and padding, as a larger padding changes the answers a little."""
        height, width = self._transform.padded_size(image.shape[0], image.shape[1])
        if not self._padded:
            return height, width
        step = self._transform.without_size_divisor
        return math.ceil(height / step), math.ceil(width / step)

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        try:
            results = self._module([self._to_input_tensor(image) for image in images])
        except ImageError as error:
            raise ImageError(error.kind, f"{'+'.join(spec.alias for spec in specs)}: {error}") from None
        outputs = DetectorOutputs(results, [image.shape[:2] for image in images], sizes)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}

    def _to_input_tensor(self, image: Image) -> Tensor:
        pixels = to_device([image], self._device)[0].permute(2, 0, 1)
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


@dataclass(frozen=True, slots=True)
class DetectorOutputs:
    """Outputs for a batch."""

    results: Sequence[Mapping[str, Tensor]]
    """One result per image, as torchvision's detectors return it."""
    sizes: Sequence[Sequence[int]]
    """(height, width) of each image."""
    originals: Sequence[Size]
    """(width, height) of each oriented original."""

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The boxes of each image."""
        return [
            _detections_of_output(model, result, size, original)
            for result, size, original in zip(self.results, self.sizes, self.originals, strict=True)
        ]


def _expect_finite_heads(_: nn.Module, __: Any, output: Any) -> None:
    """Raise an error for NaN in a head's output, which would otherwise be dropped as a low score."""
    total: Any = sum(tensor.sum(dtype=torch.float32) for tensor in _tensors_of_output(output))
    if not math.isfinite(total):
        raise ImageError(INVALID, "expected finite scores and boxes, got NaN or infinity")


def _tensors_of_output(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for inner in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors_of_output(inner)


def _detections_of_output(
    model: ModelFacts, result: Mapping[str, Tensor], size: Sequence[int], original: Size
) -> BoxAnswer:
    label_ids, scores = result["labels"].cpu().numpy(), to_numpy(result["scores"])
    boxes = to_numpy(result["boxes"])
    if model.view.letterbox is not None:
        boxes = boxes_to_original(model.view, original, boxes).astype(np.float32)
    keep = select_detections(model, label_ids, scores)
    keep = keep[(boxes[keep, :2] != boxes[keep, 2:]).all(axis=1)]  # boxes that have no area within the image
    masks: list[bytes] = []
    if model.masks:
        masks = [_paste_mask(result["masks"][row], result["boxes"][row], size) for row in keep]
    keypoints = None
    if model.keypoints:
        points = torch.cat([result["keypoints"][..., :2], result["keypoints_scores"][..., None]], dim=2)
        keypoints = to_numpy(points)[keep]
    return BoxAnswer(
        boxes=boxes[keep],
        label_ids=label_ids[keep],
        scores=scores[keep],
        masks=masks,
        keypoints=keypoints,
    )


def _paste_mask(mask: Tensor, box: Tensor, size: Sequence[int]) -> bytes:
    pasted = paste_masks_in_image(mask[None].float(), box[None].float(), size)[0, 0]
    inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (pasted > _INSIDE).cpu().numpy()
    return encode_mask(inside)


class _SmallMaskTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """A transform that keeps masks at the 28 × 28 pixels of the head's output.

    If pasted all together, the 100 masks of a photo of 12 megapixels take 4.8 GB.
    """

    @classmethod
    def from_transform(cls, transform: GeneralizedRCNNTransform) -> _SmallMaskTransform:
        """Copy the settings of a model's transform."""
        copy = cls(
            transform.min_size,
            transform.max_size,
            transform.image_mean,
            transform.image_std,
            size_divisible=transform.size_divisible,
            fixed_size=transform.fixed_size,
        )
        copy.eval()
        return copy

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the batch that `forward` makes from one image."""
        if self.fixed_size is not None:
            return self.fixed_size[1], self.fixed_size[0]
        scale = min(self.min_size[-1] / min(height, width), self.max_size / max(height, width))
        step = self.size_divisible
        resized = (max(1, math.floor(height * scale)), max(1, math.floor(width * scale)))
        return (math.ceil(resized[0] / step) * step, math.ceil(resized[1] / step) * step)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Scale an image; the shorter side has at least one pixel, even for very thin images."""
        height, width = image.shape[-2:]
        if self.fixed_size is None and min(height, width) * self.max_size < max(height, width):
            size = (1, self.max_size) if width > height else (self.max_size, 1)
            image = functional.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
            return image, target
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized

    @property
    def without_size_divisor(self) -> int:
        """Step, in pixels, to which sides can be rounded up with at most `_PADDING` additional pixels."""
        spare = self.min_size[-1] * (math.sqrt(1 + _PADDING) - 1)
        step: int = self.size_divisible
        return step * (1 + int(spare / step))

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Scale boxes and keypoints to the originals; masks stay unchanged."""
        small_masks = [image.pop("masks", None) for image in result]
        super().postprocess(result, image_shapes, original_image_sizes)
        for image, masks in zip(result, small_masks, strict=True):
            if masks is not None:
                image["masks"] = masks
        return result
