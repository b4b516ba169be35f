"""Detection: boxes with labels and scores, and masks and keypoints if the model returns them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import capture_row_error
from cvbatch.images.preprocess import Size, boxes_to_original
from cvbatch.images.tiles import Tiles
from cvbatch.schema import BINARIES, FLOAT_LISTS, FLOATS, INTS, STRINGS
from cvbatch.tasks.arrow import category_names, join_arrays, split_into_lists
from cvbatch.tasks.base import (
    Agreement,
    BackgroundClass,
    BatchSizes,
    Columns,
    ModelFacts,
    SuppressOverlaps,
    Task,
    TileMerger,
)
from cvbatch.tasks.box_overlap import LabelledBoxes, count_matches
from cvbatch.tasks.masks import encode_mask, scaled_nearest
from cvbatch.tasks.output_checks import (
    expect_finite,
    expect_probabilities,
    first_wrong_index,
    invalid_output_error,
    shorten_repr,
)
from cvbatch.tasks.own_detections import check_detection_arrays, keypoints_to_original

SAME_BOXES: Final = 0.98
BOX_SCORE: Final = 0.3
BOX_OVERLAP: Final = 0.9
"""The tolerances of the parity certificate: the least share of boxes with a counterpart, the score from which boxes
count, and the intersection over union from which a box is a counterpart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnswer:
    """Detections in one image, best first; arrays are aligned."""

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


def score_threshold(model: ModelFacts, default: float = 0.0) -> float:
    """Return the score below which boxes are dropped: the job's, or else the model's own.

    Args:
        model: The model that answered.
        default: The model's own threshold; 0 if the network itself has applied it already.
    """
    return default if model.score_threshold is None else model.score_threshold


def select_detections(
    model: ModelFacts, label_ids: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.intp]:
    """Choose and order detections.

    Args:
        model: Gives the score threshold and the names of the label ids.
        label_ids: (n,)
        scores: (n,)

    Returns:
        Positions of the detections to keep, best first.
    """
    named = np.array([name is not None for name in model.categories])
    keep = named[label_ids] & (scores >= score_threshold(model))
    order = np.argsort(-scores, kind="stable")
    selected: npt.NDArray[np.intp] = order[keep[order]]
    return selected


class DetectionTask(Task):
    """An answer is a `BoxAnswer`."""

    name = "detection"
    default_model = "nanodet_g"
    options = ("score_threshold", "tiles")
    facts = frozenset({"masks", "keypoints"})
    batch_sizes = BatchSizes(cpu=1, cuda=8)
    locates_objects = True
    has_boxes = True
    background = BackgroundClass.ALWAYS
    label_column = "labels"

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.column_types`."""
        masks = {"masks": BINARIES} if model.masks else {}
        keypoints = {"keypoints": FLOAT_LISTS} if model.keypoints else {}
        return {"boxes": FLOAT_LISTS, "labels": STRINGS, "label_ids": INTS, "scores": FLOATS, **masks, **keypoints}

    def to_columns(self, model: ModelFacts, answers: Sequence[BoxAnswer]) -> dict[str, pa.Array]:
        """See `Task.to_columns`."""
        counts = [len(image.scores) for image in answers]
        label_ids = join_arrays([image.label_ids for image in answers], np.int32)
        arrays = {
            "boxes": split_into_lists(join_arrays([image.boxes for image in answers], np.float32, width=4), counts),
            "labels": split_into_lists(category_names(model).take(label_ids), counts),
            "label_ids": split_into_lists(label_ids, counts),
            "scores": split_into_lists(join_arrays([image.scores for image in answers], np.float32), counts),
        }
        if model.masks:
            masks = pa.array([mask for image in answers for mask in image.masks], pa.binary())
            arrays["masks"] = split_into_lists(masks, counts)
        if model.keypoints:
            keypoint_arrays = [image.keypoints for image in answers if image.keypoints is not None]
            points = [keypoints for keypoints in keypoint_arrays if len(keypoints)]
            width = max((math.prod(keypoints.shape[1:]) for keypoints in points), default=0)
            rows = [keypoints.reshape(-1, width) for keypoints in points]
            arrays["keypoints"] = split_into_lists(join_arrays(rows, np.float32, width=width), counts)
        return arrays

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Return the outputs' `boxes` for the model."""
        answers: Sequence[Any] = outputs.boxes(model)
        return answers

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse_answers`: for each image one `cvbatch.inference.python.protocol.Detections`."""
        pairs = zip(raw, sizes, strict=True)
        return [
            capture_row_error("predict", partial(_parse_detections, model, detections, size))
            for detections, size in pairs
        ]

    def check_answers(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """See `Task.check_answers`: boxes are finite and have an area, scores are from 0 to 1."""
        return [capture_row_error("predict", partial(_check_box_answer, model, answer)) for answer in answers]

    def merge_tiles(self, model: ModelFacts, tiles: Tiles, size: Size, suppress: SuppressOverlaps) -> TileMerger:
        """See `Task.merge_tiles`."""
        from cvbatch.tasks.tiled_boxes import BoxMerger  # it needs `BoxAnswer`

        return BoxMerger(model, tiles, size, suppress)

    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare_columns`: by the share of confident boxes that have a counterpart with the same label."""
        boxes = matched = 0
        for row in range(len(sizes)):
            expected, actual = (_confident_boxes(columns, row) for columns in (reference, candidate))
            boxes += max(len(expected[0]), len(actual[0]))
            matched += count_matches(expected, actual, BOX_OVERLAP)
        share = matched / boxes if boxes else 1.0
        return {"matched_boxes": share, "boxes": float(boxes)}, boxes > 0 and share >= SAME_BOXES


DETECTION: Final = DetectionTask()


def _parse_detections(model: ModelFacts, raw: Any, size: Size) -> BoxAnswer:
    arrays = check_detection_arrays(model, raw, size)
    keep = select_detections(model, arrays["label_ids"], arrays["scores"])
    points = keypoints_to_original(model.view, size, arrays["keypoints"][keep]) if model.keypoints else None
    masks = [scaled_nearest(arrays["masks"][row], size, model.view) for row in keep] if model.masks else []
    return BoxAnswer(
        boxes=boxes_to_original(model.view, size, arrays["boxes"][keep]),
        label_ids=arrays["label_ids"][keep],
        scores=arrays["scores"][keep],
        masks=[encode_mask(mask) for mask in masks],
        keypoints=points,
    )


def _check_box_answer(model: ModelFacts, answer: Any) -> Any:
    if isinstance(answer, BoxAnswer):
        expect_finite(model, "boxes", answer.boxes)
        if (wrong := first_wrong_index((answer.boxes[:, :2] >= answer.boxes[:, 2:]).any(axis=1))) is not None:
            raise invalid_output_error(
                model, f"expected boxes with an area, got {shorten_repr(answer.boxes[wrong].tolist())}"
            )
        expect_probabilities(model, answer.scores)
        if answer.keypoints is not None:
            expect_finite(model, "keypoints", answer.keypoints)
    return answer


def _confident_boxes(columns: Columns, row: int) -> LabelledBoxes:
    scores = np.array(columns["scores"][row].as_py() or [])
    confident = scores >= BOX_SCORE
    boxes = np.array(columns["boxes"][row].as_py() or [], np.float64).reshape(-1, 4)
    return boxes[confident], np.array(columns["label_ids"][row].as_py() or [], np.int64)[confident]
