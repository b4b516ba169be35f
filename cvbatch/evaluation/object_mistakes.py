"""Which object, and which prediction, is wrong in which way: the kinds of TIDE, one by one, with what they belong to.

D. Bolya, S. Foley, J. Hays, J. Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors. ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.evaluation.coco_evaluator import BOXES, MASKS, ObjectKind, ObjectPair, true_mask
from cvbatch.evaluation.error_kinds import BACKGROUND_IOU, BOTH, CLASS, DOUBLE, MATCH_IOU, MISSED, NOTHING, PLACE
from cvbatch.truth.base import Bools, Ints

Floats = npt.NDArray[np.float64]
RIGHT: Final = "right"
IGNORED: Final = "ignored"
"""A prediction on a crowd, which is neither right nor wrong."""
KINDS: Final = (RIGHT, CLASS, PLACE, BOTH, DOUBLE, NOTHING, MISSED, IGNORED)
_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
_NONE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedObjects:
    """What every prediction and every object of the truth is; codes are positions in `KINDS`."""

    predicted: Ints
    """(predictions,): code of each."""
    partners: Ints
    """(predictions,): position of the object that it is about, or -1 for the background."""
    overlaps: Floats
    """(predictions,): IoU with that object."""
    truth: Ints
    """(objects,): code of each: right, missed, ignored, or the kind of mistake that a prediction made of it."""
    confused: Ints
    """(predictions,): position of the object that has been taken for it, whatever the class; -1 for none."""

    def of_kind(self, kind: str) -> Ints:
        """Positions of the predictions of a kind; of the objects for `missed`."""
        return np.flatnonzero((self.truth if kind == MISSED else self.predicted) == _CODES[kind])


def judge_objects(pair: ObjectPair, kind: ObjectKind = BOXES) -> JudgedObjects:
    """Tell for each prediction what is wrong with it, as TIDE does: surest predictions first, at IoU 0.5.

    One image at a time; the caller bounds the number of predictions, see `sample_images`.

    Args:
        pair: Truth and predictions of the classes to judge.
        kind: Boxes or masks.
    """
    found, objects = len(pair.predicted), len(pair.truth.labels)
    judged = JudgedObjects(
        predicted=np.full(found, _CODES[NOTHING]),
        partners=np.full(found, _NONE),
        overlaps=np.zeros(found),
        truth=np.full(objects, _CODES[MISSED]),
        confused=np.full(found, _NONE),
    )
    order = np.lexsort((-pair.predicted.scores, pair.predicted.image_indices))
    truth_order = np.argsort(pair.truth.image_indices, kind="stable")
    images = pair.images
    starts = np.searchsorted(pair.predicted.image_indices[order], [images, images + 1])
    truth_starts = np.searchsorted(pair.truth.image_indices[truth_order], [images, images + 1])
    for low, high, truth_low, truth_high in np.concatenate([starts, truth_starts]).T.tolist():
        _judge_image(pair, kind, order[low:high], truth_order[truth_low:truth_high], judged)
    return judged


def find_best_score(pair: ObjectPair, judged: JudgedObjects) -> float:
    """The least score that gives the best F1 of all classes together, rounded down to three digits; 0 if none is right.

    Args:
        pair: What was judged.
        judged: With all predictions, as the weaker ones do not change what the surer ones are.
    """
    counted = judged.predicted != _CODES[IGNORED]
    scores, right = pair.predicted.scores[counted], judged.predicted[counted] == _CODES[RIGHT]
    if not right.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    objects = int(np.count_nonzero(~pair.truth.is_crowd))
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + objects)
    is_last = np.append(np.diff(scores[order]) != 0, True)  # all of one score are taken or none
    best = int(np.where(is_last, f1, -1).argmax())
    return float(np.floor(1000 * scores[order][best].astype(np.float64)) / 1000)


def _judge_image(pair: ObjectPair, kind: ObjectKind, found: Ints, objects: Ints, judged: JudgedObjects) -> None:
    """Judge one image; `found` are its predictions, the surest first, `objects` those of the truth."""
    if not len(objects):
        return
    crowd = pair.truth.is_crowd[objects]
    judged.truth[objects[crowd]] = _CODES[IGNORED]
    if not len(found):
        return
    labels, truth_labels = pair.predicted.labels[found], pair.truth.labels[objects]
    overlaps, covered = _OVERLAPS[kind.name](pair, found, objects)
    same = labels[:, None] == truth_labels[None]
    overlaps = np.where(crowd, 0.0, overlaps)
    match = _match_greedily(np.where(same, overlaps, 0.0))
    is_used = np.isin(np.arange(len(objects)), match)
    codes, partners = _kinds_of_wrong(overlaps, same, is_used)
    on_crowd: Bools = np.where(same & crowd, covered, 0.0).max(axis=1) >= MATCH_IOU
    codes[on_crowd] = _CODES[IGNORED]
    is_right: Bools = np.not_equal(match, _NONE)
    codes[is_right], partners[is_right] = _CODES[RIGHT], match[is_right]
    rest = np.where((is_right | on_crowd)[:, None] | is_used, 0.0, overlaps)
    confused = np.where(is_right, match, _match_greedily(rest))
    judged.predicted[found] = codes
    judged.partners[found] = np.where(partners == _NONE, _NONE, objects[partners])
    judged.overlaps[found] = np.where(partners == _NONE, 0.0, overlaps[np.arange(len(found)), partners])
    judged.confused[found] = np.where(confused == _NONE, _NONE, objects[confused])
    for mistake in (CLASS, PLACE):  # such an object is no longer missed
        claimed = partners[codes == _CODES[mistake]]
        judged.truth[objects[claimed]] = _CODES[mistake]
    judged.truth[objects[is_used]] = _CODES[RIGHT]


def _kinds_of_wrong(overlaps: Floats, same: Bools, is_used: Bools) -> tuple[Ints, Ints]:
    """Codes and partners of predictions that match no object of their class, in the order of TIDE's questions."""
    kinds = (
        (PLACE, np.where(same, overlaps, 0.0), BACKGROUND_IOU, MATCH_IOU),
        (CLASS, np.where(same, 0.0, overlaps), MATCH_IOU, np.inf),
        (DOUBLE, np.where(same & is_used, overlaps, 0.0), MATCH_IOU, np.inf),
        (NOTHING, overlaps, -np.inf, BACKGROUND_IOU),
        (BOTH, overlaps, -np.inf, np.inf),
    )
    codes, partners = np.full(len(overlaps), _NONE), np.full(len(overlaps), _NONE)
    for kind, numbers, low, high in kinds:
        best = numbers.argmax(axis=1)
        highest = numbers[np.arange(len(numbers)), best]
        chosen = (codes == _NONE) & (highest >= low) & (highest <= high)
        codes[chosen] = _CODES[kind]
        partners[chosen] = _NONE if kind == NOTHING else best[chosen]
    return codes, partners


def _match_greedily(overlaps: Floats) -> Ints:
    """The best object for each prediction in turn that no earlier one has taken, (predictions,); -1 for none."""
    match = np.full(len(overlaps), _NONE)
    is_free = np.ones(overlaps.shape[1], np.bool_)
    for row in np.flatnonzero(overlaps.max(axis=1) >= MATCH_IOU):
        numbers = np.where(is_free, overlaps[row], 0.0)
        best = int(numbers.argmax())
        if numbers[best] >= MATCH_IOU:
            match[row], is_free[best] = best, False
    return match


def _overlap_boxes(pair: ObjectPair, found: Ints, objects: Ints) -> tuple[Floats, Floats]:
    """IoU of predictions and objects of one image, and the share of each prediction on each object: both (n, m)."""
    first, boxes = pair.predicted.boxes[found].astype(np.float64)[:, None], pair.truth.boxes[objects]
    second = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    areas, other_areas = (first[..., 2:] - first[..., :2]).prod(axis=-1), boxes[None, :, 2:].prod(axis=-1)
    return common / np.maximum(areas + other_areas - common, 1e-12), common / np.maximum(areas, 1e-12)


def _overlap_masks(pair: ObjectPair, found: Ints, objects: Ints) -> tuple[Floats, Floats]:
    """As `_overlap_boxes`, of masks; where the object is a crowd both are the share of the prediction, as in COCO."""
    import hotcoco

    assert pair.predicted.masks is not None
    size = pair.sizes[pair.truth.image_indices[objects[0]]][::-1].tolist()
    masks = [{"size": size, "counts": pair.predicted.masks[place].as_py()} for place in found.tolist()]
    truth = [true_mask(pair.truth, pair.sizes, place) for place in objects.tolist()]
    overlaps = np.asarray(hotcoco.mask.iou(masks, truth, pair.truth.is_crowd[objects].tolist()), np.float64)
    return overlaps, overlaps


_OVERLAPS: Final = {BOXES.name: _overlap_boxes, MASKS.name: _overlap_masks}
