"""Boxes of one image from the outputs of a graph, for all heads: vectorised, one image at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size, boxes_to_original
from cvbatch.inference.graphs import nanodet_head
from cvbatch.inference.graphs.object_masks import paste_masks
from cvbatch.inference.graphs.probabilities import to_probabilities
from cvbatch.models.graphs.box_heads import MASKS, PROTOTYPES
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, score_threshold
from cvbatch.tasks.output_checks import expect_label_ids, invalid_output_error
from cvbatch.tasks.own_detections import keypoints_to_original

THRESHOLD: Final = 0.05
"""Score below which boxes are dropped, unless the job says another; as for other detectors."""
_MOST_BOXES: Final = 300
"""Of an image."""
_MOST_CANDIDATES: Final = 3000
"""Of an image, before overlapping ones are dropped."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RawBoxes:
    """All boxes of an image as a graph gives them."""

    boxes: Array
    """(n, 4), in the graph's format and units."""
    scores: Array
    """Probabilities, (n, classes), or (n,) with label ids."""
    label_ids: Array | None = None
    """(n,)"""
    coefficients: Array | None = None
    """(n, prototypes)"""
    points: Array | None = None
    """(n, keypoints × numbers of each), in the graph's pixels."""


def decode_boxes(
    model: ModelFacts, arrays: Mapping[str, Array], reading: GraphReading, frame: tuple[int, int], size: Size
) -> BoxAnswer:
    """Turn the outputs for one image into its boxes.

    Args:
        model: The model that answers.
        arrays: Outputs of the graph for this image, by role.
        reading: How they are read.
        frame: (height, width) of the image that the graph saw.
        size: (width, height) of the oriented original.

    Raises:
        ImageError: Scores or boxes are no numbers, or a label id has no category.
    """
    raw = _READERS[reading.head](arrays, reading, frame)
    if not np.isfinite(raw.scores).all():
        raise invalid_output_error(model, "expected finite scores, got NaN or infinity")
    rows, scores, label_ids = _candidates(model, raw, reading)
    corners = _to_corners(raw.boxes[rows].astype(np.float32), reading, frame)
    if not np.isfinite(corners).all():
        raise invalid_output_error(model, "expected finite boxes, got NaN or infinity")
    boxes = boxes_to_original(model.view, size, corners)
    kept = np.flatnonzero((boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    if reading.overlap is not None:
        from cvbatch.inference.torch.suppression import suppress_overlaps

        kept = kept[suppress_overlaps(boxes[kept], scores[kept], label_ids[kept], reading.overlap)]
    kept = kept[:_MOST_BOXES]
    masks = []
    if model.masks:
        logits = _mask_logits(arrays, raw, rows[kept])
        masks = paste_masks(logits, boxes[kept] if PROTOTYPES in arrays else None, model.view, frame, size)
    points = None
    if model.keypoints and raw.points is not None:
        points = keypoints_to_original(model.view, size, _with_scores(raw.points[rows[kept]], reading))
    return BoxAnswer(boxes=boxes[kept], label_ids=label_ids[kept], scores=scores[kept], masks=masks, keypoints=points)


def _candidates(model: ModelFacts, raw: RawBoxes, reading: GraphReading) -> tuple[Array, Array, Array]:
    """Positions, scores and label ids of boxes with a score that is high enough, best first."""
    threshold = score_threshold(model, THRESHOLD)
    named = np.array([name is not None for name in model.categories])
    if raw.label_ids is not None:
        rows = np.flatnonzero(raw.scores >= threshold)
        label_ids = raw.label_ids[rows].astype(np.int64)
        expect_label_ids(model, label_ids)
        scores = raw.scores[rows]
    else:
        scores = raw.scores
        if reading.best_class:
            label_ids = scores.argmax(axis=1)
            scores = np.take_along_axis(scores, label_ids[:, None], axis=1)[:, 0]
            rows = np.flatnonzero(scores >= threshold)
            scores, label_ids = scores[rows], label_ids[rows]
        else:
            rows, label_ids = np.nonzero(scores >= threshold)
            scores = scores[rows, label_ids]
    is_named = named[label_ids] if len(label_ids) else np.zeros(0, np.bool_)
    rows, scores, label_ids = rows[is_named], scores[is_named], label_ids[is_named]
    order = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    return rows[order], scores[order].astype(np.float32), label_ids[order]


def _to_corners(boxes: Array, reading: GraphReading, frame: tuple[int, int]) -> Array:
    """Boxes as x_min, y_min, x_max, y_max in pixels of the frame."""
    if reading.box_units == "fractions":
        height, width = frame
        scale = (height, width) if reading.box_format == "yxyx" else (width, height)
        boxes = boxes * np.tile(np.array(scale, np.float32), 2)
    if reading.box_format == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if reading.box_format == "xywh":
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    if reading.box_format == "cxcywh":
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes


def _read_yolo(arrays: Mapping[str, Array], reading: GraphReading, frame: tuple[int, int]) -> RawBoxes:
    classes = reading.classes or 0
    prototypes = arrays[PROTOTYPES].shape[0] if PROTOTYPES in arrays else 0
    points = math.prod(reading.keypoints or (0,))
    before = 5 if reading.head == "yolov5" else 4
    table = arrays["boxes"]
    if table.shape[1] != before + classes + prototypes + points:
        table = table.T
    scores = to_probabilities(table[:, before : before + classes], reading)
    if reading.head == "yolov5":
        scores = scores * table[:, 4:5]
    return RawBoxes(table[:, :4], scores, None, *_rest_of_table(table[:, before + classes :], prototypes, reading))


def _read_rows(arrays: Mapping[str, Array], reading: GraphReading, frame: tuple[int, int]) -> RawBoxes:
    table = arrays["boxes"]
    prototypes = arrays[PROTOTYPES].shape[0] if PROTOTYPES in arrays else 0
    rest = _rest_of_table(table[:, 6:], prototypes, reading)
    return RawBoxes(table[:, :4], table[:, 4], np.rint(table[:, 5]), *rest)


def _rest_of_table(rest: Array, prototypes: int, reading: GraphReading) -> tuple[Array | None, Array | None]:
    """Coefficients of prototypes, and keypoints."""
    points = math.prod(reading.keypoints or (0,))
    return rest[:, :prototypes] if prototypes else None, rest[:, prototypes:][:, :points] if points else None


def _with_scores(points: Array, reading: GraphReading) -> Array:
    """Keypoints as (n, keypoints, 3); those without scores have 1."""
    count, numbers = reading.keypoints or (0, 3)
    shaped = points.astype(np.float32).reshape(len(points), count, numbers)
    return shaped if numbers == 3 else np.concatenate([shaped, np.ones((*shaped.shape[:2], 1), np.float32)], axis=2)


def _read_pair(arrays: Mapping[str, Array], reading: GraphReading, frame: tuple[int, int]) -> RawBoxes:
    scores = to_probabilities(arrays["scores"].astype(np.float32), reading)
    if reading.last_is_background:
        scores = scores[:, :-1]
    return RawBoxes(arrays["boxes"], scores, arrays.get("labels"))


def _read_nanodet(arrays: Mapping[str, Array], reading: GraphReading, frame: tuple[int, int]) -> RawBoxes:
    boxes, scores = nanodet_head.read_levels(arrays, reading.classes or 0, frame)
    return RawBoxes(boxes, to_probabilities(scores, reading))


_READERS: Final = {
    "yolo": _read_yolo,
    "yolov5": _read_yolo,
    "rows": _read_rows,
    "boxes": _read_pair,
    "nanodet": _read_nanodet,
}


def _mask_logits(arrays: Mapping[str, Array], raw: RawBoxes, rows: Array) -> Array:
    """Logits of the masks of some boxes over the frame, (n, height, width)."""
    if PROTOTYPES not in arrays or raw.coefficients is None:
        masks = arrays[MASKS]
        # RF-DETR gives logits, Mask R-CNN gives probabilities
        shifted = masks[rows].astype(np.float32) - (0.5 if masks.size and masks.min() >= 0 else 0)
        return shifted.reshape(len(rows), *masks.shape[-2:])
    prototypes = arrays[PROTOTYPES]
    flat = raw.coefficients[rows].astype(np.float32) @ prototypes.reshape(len(prototypes), -1).astype(np.float32)
    logits: Array = flat.reshape(-1, *prototypes.shape[1:])
    return logits
