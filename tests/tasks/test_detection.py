"""Boxes to columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import DETECTION, BoxAnswer, select_detections

SPEC = ModelSpec(
    alias="a", task="detection", kind="python", name="", view=View(), categories=(None, "b", "c"), score_threshold=0.3
)
NONE = BoxAnswer(boxes=np.empty((0, 4)), label_ids=np.empty(0, int), scores=np.empty(0))
TWO = BoxAnswer(
    boxes=np.array([[0, 1, 2, 3], [4, 5, 6, 7]]),
    label_ids=np.array([2, 1]),
    scores=np.array([0.75, 0.5]),
    masks=[b"one", b"two"],
    keypoints=np.arange(12.0).reshape(2, 2, 3),
)


def test_wanted_is_named_above_the_threshold_best_first() -> None:
    label_ids, scores = np.array([1, 0, 2, 1, 2]), np.array([0.3, 0.9, 0.8, 0.2, 0.8], np.float32)
    assert select_detections(SPEC, label_ids, scores).tolist() == [2, 4, 0]
    assert select_detections(replace(SPEC, score_threshold=None), label_ids, scores).tolist() == [2, 4, 0, 3]


@pytest.mark.parametrize("found", [[NONE, TWO, NONE], [NONE], [TWO]])
@pytest.mark.parametrize(("masks", "keypoints"), [(False, False), (True, False), (False, True), (True, True)])
def test_rows_keep_their_boxes(found: list[BoxAnswer], masks: bool, keypoints: bool) -> None:
    spec = replace(SPEC, masks=masks, keypoints=keypoints)
    arrays = DETECTION.to_columns(spec, found)
    assert {name: array.type for name, array in arrays.items()} == DETECTION.column_types(spec)
    columns = {name: array.to_pylist() for name, array in arrays.items()}
    for at, image in enumerate(found):
        assert columns["boxes"][at] == image.boxes.tolist()
        assert columns["label_ids"][at] == image.label_ids.tolist()
        assert columns["labels"][at] == [spec.categories[label] for label in image.label_ids]
        assert columns["scores"][at] == image.scores.tolist()
        assert not masks or columns["masks"][at] == list(image.masks)
        points = [] if image.keypoints is None else image.keypoints.reshape(2, -1).tolist()
        assert not keypoints or columns["keypoints"][at] == points
