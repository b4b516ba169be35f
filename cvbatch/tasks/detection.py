"""Detection: boxes with labels and scores, and masks and keypoints where the model gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import attempt
from cvbatch.images.preprocess import Size, to_original
from cvbatch.schema import BINARIES, FLOAT_LISTS, FLOATS, INTS, STRINGS
from cvbatch.tasks.arrow import flat, lists, names
from cvbatch.tasks.base import Agreement, Background, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.box_overlap import LabelledBoxes, count_matches
from cvbatch.tasks.masks import encode_mask, scaled_nearest
from cvbatch.tasks.output_checks import expect_finite, expect_probabilities, first, invalid, short
from cvbatch.tasks.own_detections import checked_arrays, keypoints_to_original

SAME_BOXES: Final = 0.98
BOX_SCORE: Final = 0.3
BOX_OVERLAP: Final = 0.9
"""The tolerances of the parity certificate: of the boxes with at least this score, so many must have a counterpart that
overlaps so much."""


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


def score_threshold(model: ModelFacts, by_default: float = 0.0) -> float:
    """The score below which boxes are dropped: what the job says, or else what the model itself takes.

    Args:
        model: Whose boxes they are.
        by_default: The model's own threshold; 0 where the network has applied its own already.
    """
    return by_default if model.score_threshold is None else model.score_threshold


def wanted(
    model: ModelFacts, label_ids: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.intp]:
    """Choose and order detections.

    Args:
        model: Tells the score threshold and which label ids have a name.
        label_ids: (n,)
        scores: (n,)

    Returns:
        Positions of the detections to keep, best first.
    """
    named = np.array([name is not None for name in model.categories])
    keep = named[label_ids] & (scores >= score_threshold(model))
    order = np.argsort(-scores, kind="stable")
    kept: npt.NDArray[np.intp] = order[keep[order]]
    return kept


class Detection(Task):
    """An answer is a `Boxes`."""

    name = "detection"
    options = ("score_threshold",)
    facts = frozenset({"masks", "keypoints"})
    batch_sizes = BatchSizes(cpu=1, cuda=8)
    has_places = True
    background = Background.ALWAYS
    label_column = "labels"

    def types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.types`."""
        masks = {"masks": BINARIES} if model.masks else {}
        keypoints = {"keypoints": FLOAT_LISTS} if model.keypoints else {}
        return {"boxes": FLOAT_LISTS, "labels": STRINGS, "label_ids": INTS, "scores": FLOATS, **masks, **keypoints}

    def columns(self, model: ModelFacts, answers: Sequence[Boxes]) -> dict[str, pa.Array]:
        """See `Task.columns`."""
        counts = [len(image.scores) for image in answers]
        label_ids = flat([image.label_ids for image in answers], np.int32)
        arrays = {
            "boxes": lists(flat([image.boxes for image in answers], np.float32, width=4), counts),
            "labels": lists(names(model).take(label_ids), counts),
            "label_ids": lists(label_ids, counts),
            "scores": lists(flat([image.scores for image in answers], np.float32), counts),
        }
        if model.masks:
            masks = pa.array([mask for image in answers for mask in image.masks], pa.binary())
            arrays["masks"] = lists(masks, counts)
        if model.keypoints:
            given = [image.keypoints for image in answers if image.keypoints is not None]
            points = [keypoints for keypoints in given if len(keypoints)]
            width = max((math.prod(keypoints.shape[1:]) for keypoints in points), default=0)
            rows = [keypoints.reshape(-1, width) for keypoints in points]
            arrays["keypoints"] = lists(flat(rows, np.float32, width=width), counts)
        return arrays

    def take(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """What the outputs' `boxes` finds for the model."""
        found: Sequence[Any] = outputs.boxes(model)
        return found

    def parse(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse`: for each image one `cvbatch.inference.python.protocol.Detections`."""
        pairs = zip(raw, sizes, strict=True)
        return [attempt("predict", partial(_parsed, model, found, size)) for found, size in pairs]

    def checked(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """See `Task.checked`: boxes are finite and have an area, scores are from 0 to 1."""
        return [attempt("predict", partial(_checked, model, answer)) for answer in answers]

    def compare(self, reference: Columns, other: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare`: by the share of sure boxes with a counterpart of the same label."""
        boxes = matched = 0
        for row in range(len(sizes)):
            one, two = (_sure_boxes(columns, row) for columns in (reference, other))
            boxes += max(len(one[0]), len(two[0]))
            matched += count_matches(one, two, BOX_OVERLAP)
        share = matched / boxes if boxes else 1.0
        return {"matched_boxes": share, "boxes": float(boxes)}, boxes > 0 and share >= SAME_BOXES


DETECTION: Final = Detection()


def _parsed(model: ModelFacts, raw: Any, size: Size) -> Boxes:
    arrays = checked_arrays(model, raw, size)
    keep = wanted(model, arrays["label_ids"], arrays["scores"])
    points = keypoints_to_original(model.view, size, arrays["keypoints"][keep]) if model.keypoints else None
    return Boxes(
        boxes=to_original(model.view, size, arrays["boxes"][keep]),
        label_ids=arrays["label_ids"][keep],
        scores=arrays["scores"][keep],
        masks=[encode_mask(scaled_nearest(arrays["masks"][row], size)) for row in keep] if model.masks else [],
        keypoints=points,
    )


def _checked(model: ModelFacts, answer: Any) -> Any:
    if isinstance(answer, Boxes):
        expect_finite(model, "boxes", answer.boxes)
        if (wrong := first((answer.boxes[:, :2] >= answer.boxes[:, 2:]).any(axis=1))) is not None:
            raise invalid(model, f"expected boxes with an area, got {short(answer.boxes[wrong].tolist())}")
        expect_probabilities(model, answer.scores)
        if answer.keypoints is not None:
            expect_finite(model, "keypoints", answer.keypoints)
    return answer


def _sure_boxes(columns: Columns, row: int) -> LabelledBoxes:
    scores = np.array(columns["scores"][row].as_py() or [])
    sure = scores >= BOX_SCORE
    boxes = np.array(columns["boxes"][row].as_py() or [], np.float64).reshape(-1, 4)
    return boxes[sure], np.array(columns["label_ids"][row].as_py() or [], np.int64)[sure]
