"""Semantic segmentation networks: a label for each pixel of the original."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from cvbatch.errors import ImageError
from cvbatch.images.preprocess import Size, View, compute_crop_geometry
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.output_checks import INVALID
from cvbatch.tasks.segmentation import SegmentAnswer, emitted_label_ids, summarize_label_map

_BAND_PIXELS = 1 << 20
_USUAL_CLASSES = 32
"""With more possible classes bands are lower: one of 1,000 classes would take 4 GB."""
_MARGIN = 1e-3


class SegmenterNetwork:
    """A torchvision semantic segmentation network.

    Args:
        module: Module on its device.
        batch: Makes batches with the normalization of the network's weights.
    """

    def __init__(self, module: nn.Module, batch: BatchNormalizer) -> None:
        self._module = module
        self._batch = batch

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        logits = self._module(self._batch(images))["out"][: len(images)]
        name = "+".join(spec.alias for spec in specs)
        maps = [resize_to_label_map(image.float(), size, name=name) for image, size in zip(logits, sizes, strict=True)]
        return {spec.alias: TASKS[spec.task].take_answers(SegmenterOutputs(maps), spec) for spec in specs}


@dataclass(frozen=True, slots=True)
class SegmenterOutputs:
    """Outputs for a batch."""

    label_maps: Sequence[npt.NDArray[np.integer[Any]]]
    """One per image, (height, width) of the oriented original."""

    def segments(self, model: ModelFacts) -> list[SegmentAnswer]:
        """The segments of each image."""
        return [summarize_label_map(label_map, emitted_label_ids(model)) for label_map in self.label_maps]


def resize_to_label_map(
    logits: Tensor, size: Size, *, band_pixels: int = _BAND_PIXELS, name: str = ""
) -> npt.NDArray[np.integer[Any]]:
    """Find the best class of each pixel of the original.

    The logits are interpolated bilinearly, rows first and then columns, in bands: all classes of a photo of 12
    megapixels together would take 1 GB.

    Args:
        logits: Float32, (classes, height, width) of the view.
        size: (width, height) of the oriented original.
        band_pixels: Most pixels of the original in one band; does not change the result.
        name: Name of the model in the error.

    Returns:
        Label ids, (height, width) of the oriented original, in Fortran order.

    Raises:
        ImageError: The best logit of a pixel is not finite.
    """
    best = logits.max(dim=0)
    if not best.values.isfinite().all():  # the maximum of numbers with a NaN is NaN
        raise ImageError(INVALID, f"{name}: expected finite scores for each pixel, got NaN or infinity")
    classes = _possible_classes(logits, best.indices)
    logits = logits[classes]
    labels = np.empty(size[::-1], np.uint8 if len(logits) <= 256 else np.int32, order="F")
    for band, wide in interpolate_bands(logits, size, band_pixels=band_pixels):
        labels[band] = classes[wide.max(dim=0).indices].cpu().numpy()
    return labels


def interpolate_bands(
    maps: Tensor, size: Size, *, band_pixels: int = _BAND_PIXELS
) -> Iterator[tuple[slice[int, int, None], Tensor]]:
    """Interpolate maps bilinearly, as `torch.nn.functional.interpolate` without aligned corners, band by band.

    Args:
        maps: Float32, (maps, height, width).
        size: (width, height) to interpolate to.
        band_pixels: Pixels of a band of a few maps; of many, it has fewer.

    Yields:
        The rows of a band, and its values, (maps, rows, width).
    """
    width, height = size
    lower, upper, share = _interpolated_rows(maps.shape[1], height, maps.device)
    step = max(1, band_pixels * _USUAL_CLASSES // (width * max(_USUAL_CLASSES, len(maps))))
    for top in range(0, height, step):
        band = slice(top, top + step)
        rows = torch.lerp(maps[:, lower[band]], maps[:, upper[band]], share[band, None])
        wide = functional.interpolate(rows[None], size=(rows.shape[1], width), mode="bilinear", align_corners=False)
        yield band, wide[0]


def label_map_of_scores(
    scores: npt.NDArray[Any], size: Size, *, view: View | None = None, name: str = ""
) -> npt.NDArray[np.integer[Any]]:
    """Do as `resize_to_label_map` for an array of another framework.

    Args:
        scores: (classes, height, width) of the view, at any resolution.
        size: (width, height) of the oriented original.
        view: Its frame around the image is cut off, if it has one.
        name: Name of the model in the error.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(scores, np.float32))
    if view is not None and view.letterbox is not None:
        geometry = compute_crop_geometry(view, size)
        (width, height), (left, top) = geometry.size, (-geometry.offset[0], -geometry.offset[1])
        if tensor.shape[1:] != (height, width):
            tensor = functional.interpolate(tensor[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        tensor = tensor[:, top : top + geometry.resized_size[1], left : left + geometry.resized_size[0]]
    return resize_to_label_map(tensor, size, name=name)


def _possible_classes(logits: Tensor, best: Tensor) -> Tensor:
    """Classes that can be the best one at any position between pixels.

    A class that is below the most frequent class at every pixel stays below it, because interpolation keeps the order.
    """
    # on CPUs `argmax` (also above), `mode` and `any` take two to five times as long as these functions
    most_frequent = best.flatten().bincount().argmax()
    above = (logits > logits[most_frequent] - _MARGIN).view(torch.uint8).flatten(1).amax(dim=1)
    return above.nonzero()[:, 0]


def _interpolated_rows(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Source rows above and below each target row, and the share of the lower one.

    The half-pixel rule of `torch.nn.functional.interpolate` with `align_corners=False`, in its precision.
    """
    scale = torch.tensor(source / target, device=device)
    position = ((torch.arange(target, device=device) + 0.5) * scale - 0.5).clamp(min=0)
    lower = position.floor().long().clamp(max=source - 1)
    upper = (lower + 1).clamp(max=source - 1)
    return lower, upper, position - lower
