"""Instances of networks with a mask for each query, such as Mask2Former: decoded as by processors of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cvbatch.images.preprocess import Size
from cvbatch.inference.torch.segmenter import interpolate_bands
from cvbatch.models.transformers.reading import TransformersReading
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, score_threshold
from cvbatch.tasks.masks import encode_mask
from cvbatch.tasks.output_checks import invalid_output_error

THRESHOLD: Final = 0.5
"""Score below which instances are dropped, unless the job says another, as in transformers."""
_INSIDE: Final = 0.5
_WHOLE: Final = 0.8
"""Share of a mask that must be left where masks exclude each other; others are dropped."""
_TINY: Final = 1e-6

Instance = tuple[int, float, npt.NDArray[np.bool_]]
"""Label id, score, and mask, (height, width) of the oriented original."""


class MaskOutputs:
    """Outputs for a batch.

    Args:
        classes: Logits of classes, (images, queries, classes + 1)
        masks: Logits of masks, (images, queries, height, width)
        sizes: (width, height) of each oriented original.
        reading: How the masks are read.
    """

    def __init__(self, classes: Tensor, masks: Tensor, sizes: Sequence[Size], reading: TransformersReading) -> None:
        self._classes, self._masks, self._sizes = classes.float(), masks.float(), sizes
        self._find = _FINDERS[reading.head]

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The instances of each image, best first; their boxes are those around their masks."""
        if not (self._classes.isfinite().all() and self._masks.isfinite().all()):
            raise invalid_output_error(model, "expected finite scores and masks, got NaN or infinity")
        least = score_threshold(model, THRESHOLD)
        answers = []
        for classes, masks, size in zip(self._classes, self._masks, self._sizes, strict=True):
            found = [one for one in self._find(classes, masks, size, least) if model.categories[one[0]] is not None]
            answers.append(_to_answer(sorted(found, key=lambda one: -one[1])))
        return answers


def _find_overlapping(classes: Tensor, masks: Tensor, size: Size, least: float) -> list[Instance]:
    """Instances whose masks may overlap; any class of any query is one.

    `Mask2FormerImageProcessor.post_process_instance_segmentation` and that of MaskFormer, as binary maps.
    """
    count = len(classes)
    scores, pairs = classes.softmax(dim=-1)[:, :-1].flatten().topk(count)
    masks = masks[pairs // (classes.shape[1] - 1)]
    inside = (masks > 0).float()
    certainty = (masks.sigmoid() * inside).sum(dim=(1, 2)) / (inside.sum(dim=(1, 2)) + _TINY)
    scores = scores * certainty
    found: list[Instance] = []
    for row in (scores >= least).nonzero()[:, 0].tolist():
        grown = functional.interpolate(inside[row][None, None], size=size[::-1], mode="nearest")[0, 0]
        if grown.any():
            label = int(pairs[row]) % (classes.shape[1] - 1)
            found.append((label, float(scores[row]), grown.bool().cpu().numpy()))
    return found


def _find_exclusive(classes: Tensor, masks: Tensor, size: Size, least: float) -> list[Instance]:
    """Instances that share the pixels of the image among them; a query has its best class, or none.

    `DetrImageProcessor.post_process_instance_segmentation`; the masks are grown in bands.
    """
    scores, labels = classes.softmax(dim=-1).max(dim=-1)
    keep = (labels != classes.shape[1] - 1) & (scores > least)
    scores, labels = scores[keep], labels[keep]
    if not len(scores):
        return []
    shares = masks[keep].sigmoid()
    owners = np.empty(size[::-1], np.int32)
    areas = torch.zeros(len(scores), device=scores.device)
    for band, grown in interpolate_bands(shares, size):
        weighed = grown * scores[:, None, None]
        owners[band] = weighed.argmax(dim=0).cpu().numpy()
        areas += (weighed >= _INSIDE).sum(dim=(1, 2))
    left = np.bincount(owners.ravel(), minlength=len(scores))
    whole = [bool(own and area and own / area > _WHOLE) for own, area in zip(left, areas.tolist(), strict=True)]
    return [(int(labels[row]), float(scores[row]), owners == row) for row in np.flatnonzero(whole)]


def _to_answer(instances: Sequence[Instance]) -> BoxAnswer:
    return BoxAnswer(
        boxes=np.array([_box_around(mask) for _, _, mask in instances], np.float32).reshape(-1, 4),
        label_ids=np.array([label for label, _, _ in instances], np.int64),
        scores=np.array([score for _, score, _ in instances], np.float32),
        masks=[encode_mask(mask) for _, _, mask in instances],
    )


def _box_around(mask: npt.NDArray[np.bool_]) -> tuple[Any, ...]:
    """x_min, y_min, x_max, y_max; the last pixels lie inside."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


_FINDERS: Final[dict[str, Callable[[Tensor, Tensor, Size, float], list[Instance]]]] = {
    "overlapping_masks": _find_overlapping,
    "exclusive_masks": _find_exclusive,
}
