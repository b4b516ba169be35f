"""Classes that are measured in turn give the numbers of all classes at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvbatch.evaluation.coco_evaluator import BOXES, ObjectPair, best_per_image, keypoint_sigmas
from cvbatch.evaluation.error_kinds import find_error_kinds, sample_images
from cvbatch.evaluation.object_metrics import group_classes, measure_objects
from cvbatch.evaluation.predicted_objects import PredictedObjects
from cvbatch.truth.objects import ObjectTruth

CLASSES = 7


def make_pair(images: int = 20, seed: int = 0) -> ObjectPair:
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.random((60, 2)) * 60, 8 + rng.random((60, 2)) * 30])
    truth = objects(rng.integers(0, images, 60), rng.integers(0, CLASSES, 60), boxes, images)
    repeat = rng.integers(0, 60, 150)
    moved = boxes[repeat] + rng.normal(0, 2, (150, 4))
    predicted = PredictedObjects(
        image_indices=truth.image_indices[repeat].astype(np.int32),
        labels=np.where(rng.random(150) < 0.8, truth.labels[repeat], rng.integers(0, CLASSES, 150)).astype(np.int32),
        scores=(rng.integers(1, 9, 150) / 8).astype(np.float32),
        boxes=np.column_stack([moved[:, :2], moved[:, :2] + moved[:, 2:]]).astype(np.float32),
    )
    return ObjectPair(
        truth=truth, predicted=predicted, images=np.arange(images), sizes=np.full((images, 2), 100, np.int32)
    )


def objects(images: np.ndarray, labels: np.ndarray, boxes: np.ndarray, count: int) -> ObjectTruth:
    return ObjectTruth(
        source="t.json",
        layout="COCO JSON",
        image_names=[f"{index}.jpg" for index in range(count)],
        categories=tuple("abcdefghij"[:CLASSES]),
        image_indices=images,
        labels=labels,
        boxes=boxes,
        is_crowd=np.zeros(len(labels), np.bool_),
    )


@pytest.mark.parametrize("most", [1, 40, 90])
def test_classes_in_turn_give_the_same_numbers(most: int) -> None:
    pair, labels = make_pair(), np.arange(CLASSES)
    whole, parts = (measure_objects(pair, labels, replace(BOXES, most_objects=count)) for count in (1000, most))
    assert len(group_classes(pair, labels, most)) > 1
    assert whole.values(None) == pytest.approx(parts.values(None), abs=1e-12)
    assert dict(whole.class_numbers()) == dict(parts.class_numbers())


def test_groups_hold_all_classes_and_no_more_than_they_may() -> None:
    pair, labels = make_pair(), np.arange(CLASSES)
    groups = group_classes(pair, labels, 60)
    assert np.concatenate(groups).tolist() == labels.tolist()
    counts = np.bincount(pair.predicted.labels, minlength=CLASSES)
    assert all(counts[group].sum() <= 60 or len(group) == 1 for group in groups)


def test_each_kind_of_error_is_told_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10], [60, 0, 10, 10], [80, 0, 10, 10]], np.float64)
    truth = objects(np.zeros(5, np.int64), np.array([0, 0, 0, 0, 1]), boxes, 1)
    found = [  # box, class
        ([0, 0, 10, 10], 0),
        ([0, 0, 10, 10], 0),  # double
        ([20, 0, 30, 10], 1),  # class
        ([46, 0, 56, 10], 0),  # place: IoU 4 / 16
        ([66, 0, 76, 10], 1),  # both; its object is missed
        ([0, 50, 10, 60], 0),  # background
        ([80, 0, 90, 10], 1),
    ]
    predicted = PredictedObjects(
        image_indices=np.zeros(len(found), np.int32),
        labels=np.array([label for _, label in found], np.int32),
        scores=np.linspace(0.9, 0.3, len(found), dtype=np.float32),
        boxes=np.array([box for box, _ in found], np.float32),
    )
    pair = ObjectPair(truth=truth, predicted=predicted, images=np.arange(1), sizes=np.full((1, 2), 100, np.int32))
    answer = find_error_kinds(pair, np.arange(2), BOXES)
    counts = {name: kind["count"] for name, kind in answer["kinds"].items()}
    assert counts == {"class": 1, "place": 1, "both": 1, "double": 1, "background": 1, "missed": 1}
    assert answer["kinds"]["class"]["AP50 lost"] > 0 == answer["kinds"]["double"]["AP50 lost"]
    assert answer["images"] == 1


def test_of_too_many_predictions_some_images_are_sampled() -> None:
    pair = make_pair()
    assert sample_images(pair, 150).tolist() == pair.images.tolist()
    images = sample_images(pair, 70)
    assert 0 < len(pair.of_images(images).predicted) <= 70
    assert find_error_kinds(pair, np.arange(CLASSES), replace(BOXES, most_objects=20))["images"] < 20


def test_the_best_objects_of_each_image_stay_in_their_order() -> None:
    predicted = make_pair().predicted
    best = best_per_image(predicted, 2)
    for image in range(20):
        all_scores = sorted(predicted.scores[predicted.image_indices == image].tolist(), reverse=True)
        assert sorted(best.scores[best.image_indices == image].tolist(), reverse=True) == all_scores[:2]


def test_sigmas_of_keypoints() -> None:
    assert keypoint_sigmas(17)[:2] == [0.026, 0.025]
    assert keypoint_sigmas(4) == [0.25] * 4
