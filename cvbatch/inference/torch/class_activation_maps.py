"""Boxes and masks from class activation maps: where a classifier sees a class.

Zhou et al., Learning Deep Features for Discriminative Localization (arXiv:1512.04150), with one change: the score of a
class is that of its best window of 7 × 7 positions, not that of the whole map. The classifier was trained with pooling
over such a window; the average over a larger view dilutes objects that fill only a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cvbatch.images.preprocess import Size
from cvbatch.inference.torch.segmenter import resize_to_label_map
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.tasks.segmentation import SegmentAnswer
from cvbatch.tasks.segmentation import summarize_label_map as summarise

THRESHOLD = 0.2
"""Smallest probability of a class in a window."""
_WINDOW = 7
_SHARE = 0.25
"""A region is where its class map is above this share of its maximum."""
_FINE = 4
"""Regions are found on a grid that is this many times finer than the map."""
_MAX_CLASSES = 5
_MAX_OVERLAP = 0.5
"""If two regions overlap more (IoU), only the one with the higher score is returned."""


@dataclass(frozen=True, slots=True)
class ActivationRegion:
    """A connected part of an image that shows one class."""

    label_id: int
    score: float
    inside: Tensor
    """Bool, (height, width) of the fine grid."""
    heat: Tensor
    """Class map on the fine grid, scaled to a maximum of 1."""


def find_regions(maps: Tensor, emitted: Sequence[int | None], threshold: float = THRESHOLD) -> list[ActivationRegion]:
    """Find the regions that show a class.

    Args:
        maps: Float32, (classes, height, width): logits at each position.
        emitted: Label id of each class; None for those that are never emitted.
        threshold: Smallest probability.

    Returns:
        Regions, best first.
    """
    window = [min(_WINDOW, length) for length in maps.shape[1:]]
    pooled = functional.avg_pool2d(maps[None], window, stride=1)[0].softmax(dim=0)
    best = pooled.flatten(1).max(dim=1).values
    candidates: list[ActivationRegion] = []
    for label_id in best.argsort(descending=True)[:_MAX_CLASSES].tolist():
        if best[label_id] >= threshold and emitted[label_id] is not None:
            scores = _centre_windows(pooled[label_id], maps.shape[1:])
            candidates += _regions_of(label_id, maps[label_id], scores, threshold)
    regions: list[ActivationRegion] = []
    for region in sorted(candidates, key=lambda region: -region.score):
        if all(_overlap_share(region.inside, other.inside) <= _MAX_OVERLAP for other in regions):
            regions.append(region)
    return regions


def regions_to_boxes(regions: Sequence[ActivationRegion], size: Size) -> BoxAnswer:
    """Convert regions to their bounding boxes.

    Args:
        regions: From `find_regions`.
        size: (width, height) of the oriented original.
    """
    extents = np.array([_bounding_extent(region.inside) for region in regions], np.float32).reshape(-1, 4)
    return BoxAnswer(
        boxes=extents * np.array([*size, *size], np.float32),
        label_ids=np.array([region.label_id for region in regions], np.int32),
        scores=np.array([region.score for region in regions], np.float32),
    )


def regions_to_segments(regions: Sequence[ActivationRegion], size: Size) -> SegmentAnswer:
    """Convert regions to masks that do not overlap.

    Args:
        regions: From `find_regions`.
        size: (width, height) of the oriented original.
    """
    if not regions:
        return SegmentAnswer(label_ids=np.empty(0, np.int32), areas=np.empty(0, np.float32), masks=[])
    label_ids = sorted({region.label_id for region in regions})
    layers = torch.zeros(1 + len(label_ids), *regions[0].heat.shape)
    layers[0] = _SHARE
    for region in regions:
        layer = layers[1 + label_ids.index(region.label_id)]
        layer[region.inside] = region.heat[region.inside]
    return summarise(resize_to_label_map(layers, size), [None, *label_ids])


def _centre_windows(windows: Tensor, shape: Sequence[int]) -> Tensor:
    """Value of the window around each position; at the edges, the window moves inwards."""
    rows, columns = (
        (torch.arange(length) - (length - count + 1) // 2).clamp(0, count - 1)
        for length, count in zip(shape, windows.shape, strict=True)
    )
    return windows[rows[:, None], columns]


def _regions_of(label_id: int, heat: Tensor, scores: Tensor, threshold: float) -> list[ActivationRegion]:
    shape = [length * _FINE for length in heat.shape]
    fine = functional.interpolate((heat / heat.max())[None, None], size=shape, mode="bilinear")[0, 0]
    fine_scores = functional.interpolate(scores[None, None], size=shape, mode="nearest")[0, 0]
    components = _connected_components(fine > _SHARE)
    regions = []
    for component in np.unique(components.numpy()):
        inside = components == component
        score = float(fine_scores[inside].max())
        if component and score >= threshold:
            regions.append(ActivationRegion(label_id, score, inside, fine))
    return regions


def _connected_components(inside: Tensor) -> Tensor:
    """Number the connected parts of a mask with positive numbers; 0 is outside. Neighbours share a side or a corner."""
    numbers = torch.arange(1, inside.numel() + 1, dtype=torch.float32).reshape(inside.shape) * inside
    while True:
        spread = functional.max_pool2d(numbers[None], 3, stride=1, padding=1)[0] * inside
        if torch.equal(spread, numbers):
            return numbers
        numbers = spread


def _overlap_share(first: Tensor, second: Tensor) -> float:
    return float((first & second).sum() / (first | second).sum())


def _bounding_extent(inside: Tensor) -> tuple[float, float, float, float]:
    """Bounding box as shares of the grid: x_min, y_min, x_max, y_max."""
    rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
    height, width = inside.shape
    return (
        float(columns[0]) / width,
        float(rows[0]) / height,
        float(columns[-1] + 1) / width,
        float(rows[-1] + 1) / height,
    )
