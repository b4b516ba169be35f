"""Each box is wrong in the way in which TIDE counts it, and each object has one cell of the confusion."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco_mask

from cvbatch.evaluation.coco_evaluator import BOXES, MASKS, ObjectKind, ObjectPair
from cvbatch.evaluation.error_kinds import find_error_kinds
from cvbatch.evaluation.object_mistakes import IGNORED, KINDS, RIGHT, find_best_score, judge_objects
from cvbatch.evaluation.predicted_objects import PredictedObjects
from cvbatch.truth.objects import ObjectTruth

LABELS = np.arange(3)


def make_pair(seed: int, images: int = 30) -> ObjectPair:
    """Objects, and predictions near them, elsewhere, of other classes, and twice."""
    rng = np.random.default_rng(seed)
    count = 4 * images
    boxes = np.concatenate([rng.uniform(0, 60, (count, 2)), rng.uniform(10, 40, (count, 2))], axis=1)
    owners, labels = rng.integers(0, images, count), rng.integers(0, 3, count)
    chosen = rng.integers(0, count, 3 * count)
    found = boxes[chosen] + rng.normal(0, 4, (3 * count, 4))
    found[:, 2:] = np.maximum(found[:, 2:] + found[:, :2], found[:, :2] + 1)
    changed = np.where(rng.random(3 * count) < 0.2, rng.integers(0, 3, 3 * count), labels[chosen])
    truth = ObjectTruth(
        source="truth",
        layout="COCO",
        notes=(),
        image_names=[f"{image}.jpg" for image in range(images)],
        categories=["a", "b", "c"],
        image_indices=owners,
        labels=labels,
        boxes=boxes,
        is_crowd=np.zeros(count, np.bool_),
    )
    predicted = PredictedObjects(
        image_indices=np.where(rng.random(3 * count) < 0.1, rng.integers(0, images, 3 * count), owners[chosen]).astype(
            np.int32
        ),
        labels=changed.astype(np.int32),
        scores=(rng.permutation(3 * count) / 4096).astype(np.float32),
        boxes=found.astype(np.float32),
    )
    order = np.lexsort((-predicted.scores, predicted.image_indices))
    sizes = np.full((images, 2), 100, np.int32)
    return ObjectPair(truth=truth, predicted=predicted.restrict(order), images=np.arange(images), sizes=sizes)


def with_masks(pair: ObjectPair) -> ObjectPair:
    """Each object is a part of its box, that of the truth as a polygon."""
    corners = pair.predicted.boxes.round().astype(int).clip(0, 100)
    drawn = np.zeros((len(corners), 100, 100), np.uint8)
    for pixels, (left, top, right, bottom) in zip(drawn, corners.tolist(), strict=True):
        pixels[top:bottom, left:right] = 1
    counts = [coco_mask.encode(np.asfortranarray(pixels))["counts"] for pixels in drawn]
    polygons = [[[x, y, x + w, y, x + w, y + 0.9 * h, x, y + h]] for x, y, w, h in pair.truth.boxes.tolist()]
    return replace(
        pair,
        truth=replace(pair.truth, segmentations=polygons),
        predicted=replace(pair.predicted, masks=pa.array(counts, pa.large_binary())),
    )


@pytest.mark.parametrize("kind", [BOXES, MASKS], ids=["boxes", "masks"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kinds_are_those_that_tide_counts(seed: int, kind: ObjectKind) -> None:
    pair = with_masks(make_pair(seed))
    judged = judge_objects(pair, kind)
    counts = {name: numbers["count"] for name, numbers in find_error_kinds(pair, LABELS, kind)["kinds"].items()}
    assert {name: len(judged.of_kind(name)) for name in counts} == counts
    assert min(counts.values()) > 0
    right = judged.of_kind(RIGHT)
    assert len(right) == np.count_nonzero(judged.truth == KINDS.index(RIGHT))
    assert np.all(judged.overlaps[right] >= 0.5)
    assert np.array_equal(pair.truth.labels[judged.partners[right]], pair.predicted.labels[right])


def test_each_object_is_in_one_cell_of_the_confusion() -> None:
    pair = make_pair(5)
    judged = judge_objects(pair)
    taken = Counter(place for place in judged.confused.tolist() if place >= 0)
    assert set(taken.values()) == {1}
    right = judged.of_kind(RIGHT)
    assert np.array_equal(judged.confused[right], judged.partners[right])
    others = np.setdiff1d(np.flatnonzero(judged.confused >= 0), right)
    assert len(others) > 3
    assert np.all(pair.truth.labels[judged.confused[others]] != pair.predicted.labels[others])
    assert np.array_equal(pair.truth.image_indices[judged.confused[others]], pair.predicted.image_indices[others])


def test_the_best_score_is_that_of_the_best_f1() -> None:
    pair = make_pair(6)
    best = find_best_score(pair, judge_objects(pair))

    def f1(score: float) -> float:
        kept = replace(pair, predicted=pair.predicted.restrict(pair.predicted.scores >= score))
        right = len(judge_objects(kept).of_kind(RIGHT))
        return 2 * right / (len(kept.predicted) + len(pair.truth.labels))

    thresholds = np.unique(np.floor(1000 * pair.predicted.scores) / 1000)[::9]
    assert f1(best) >= max(map(f1, thresholds)) - 0.01
    assert 0 < best < 1
    worst = replace(pair, predicted=pair.predicted.restrict(np.zeros(len(pair.predicted), np.bool_)))
    assert find_best_score(worst, judge_objects(worst)) == 0


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    pair = make_pair(7, images=1)
    crowd = replace(
        pair.truth, is_crowd=np.ones(len(pair.truth.labels), np.bool_), boxes=np.array([[0, 0, 99, 99.0]] * 4)
    )
    judged = judge_objects(replace(pair, truth=crowd))
    named = np.isin(pair.predicted.labels, crowd.labels)
    assert np.array_equal(judged.predicted == KINDS.index(IGNORED), named)
    assert len(judged.of_kind("missed")) == 0


def test_images_without_objects_or_without_predictions() -> None:
    pair = make_pair(8)
    nothing = replace(pair, truth=pair.truth.restrict(np.zeros(len(pair.truth.labels), np.bool_)))
    assert len(judge_objects(nothing).of_kind("background")) == len(pair.predicted)
    silent = replace(pair, predicted=pair.predicted.restrict(np.zeros(len(pair.predicted), np.bool_)))
    assert len(judge_objects(silent).of_kind("missed")) == len(pair.truth.labels)
