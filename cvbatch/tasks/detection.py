"""Detection: boxes with labels and scores, and masks and keypoints where the model gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.arrow import flat, lists, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """What was found in one image, best first; arrays are aligned."""

    boxes: npt.NDArray[np.floating[Any]]
    """(n, 4): x_min, y_min, x_max, y_max in pixels of the oriented original."""
    label_ids: npt.NDArray[np.integer[Any]]
    """(n,)"""
    scores: npt.NDArray[np.floating[Any]]
    """(n,)"""
    masks: Sequence[bytes] = ()
    """RLE at the size of the oriented original."""
    keypoints: npt.NDArray[np.floating[Any]] | None = None
    """(n, keypoints, 3): x, y, score, in pixels of the oriented original."""


def wanted(
    spec: ModelSpec, label_ids: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.intp]:
    """Choose and order detections.

    Args:
        spec: Tells the score threshold and which label ids have a name.
        label_ids: (n,)
        scores: (n,)

    Returns:
        Positions of the detections to keep, best first.
    """
    named = np.array([name is not None for name in spec.categories])
    keep = named[label_ids] & (scores >= (spec.score_threshold or 0.0))
    order = np.argsort(-scores, kind="stable")
    kept: npt.NDArray[np.intp] = order[keep[order]]
    return kept


def columns(spec: ModelSpec, found: Sequence[Boxes]) -> list[pa.Array]:
    """Turn detections into columns.

    Args:
        spec: Its categories name the label ids.
        found: For each image.

    Returns:
        One array per field of `spec.fields()`, in their order.
    """
    counts = [len(image.scores) for image in found]
    label_ids = flat([image.label_ids for image in found], np.int32)
    arrays = [
        lists(flat([image.boxes for image in found], np.float32, width=4), counts),
        lists(names(spec).take(label_ids), counts),
        lists(label_ids, counts),
        lists(flat([image.scores for image in found], np.float32), counts),
    ]
    if spec.masks:
        masks = pa.array([mask for image in found for mask in image.masks], pa.binary())
        arrays.append(lists(masks, counts))
    if spec.keypoints:
        points = [image.keypoints for image in found if image.keypoints is not None]
        width = max((math.prod(each.shape[1:]) for each in points if len(each)), default=0)
        rows = [each.reshape(-1, width) for each in points if len(each)]
        arrays.append(lists(flat(rows, np.float32, width=width), counts))
    return arrays
