"""Agreement of two settings, task by task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.config.job import Task
from cvbatch.tasks.masks import encode_mask
from cvbatch.tuning.parity import compare_answers
from tests.samples import spec


def columns(task: Task, rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    fields = spec(task, task).column_fields()
    return {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in fields}


def classified(label_id: int, score: float) -> dict[str, Any]:
    return {"classification_label_id": label_id, "classification_score": score}


def test_the_same_labels_and_scores_agree() -> None:
    rows = [classified(at % 3, 0.5) for at in range(200)]
    other = [classified(at % 3, 0.505) for at in range(200)]
    other[7] = classified(9, 0.505)
    found = compare_answers(spec(), columns("classification", rows), columns("classification", other), [(8, 8)] * 200)
    assert found["same_label"] == 0.995
    assert found["mean_score_difference"] == pytest.approx(0.005, abs=1e-6)
    assert found["passed"]


@pytest.mark.parametrize(("label_id", "score"), [(1, 0.5), (0, 0.52)])
def test_other_labels_or_scores_do_not(label_id: int, score: float) -> None:
    reference = columns("classification", [classified(0, 0.5)] * 50)
    other = columns("classification", [classified(0, score)] * 48 + [classified(label_id, score)] * 2)
    assert not compare_answers(spec(), reference, other, [(8, 8)] * 50)["passed"]


def test_an_image_that_fails_at_one_setting_only_does_not_agree() -> None:
    reference = columns("classification", [classified(0, 0.5)] * 10)
    other = columns("classification", [classified(0, 0.5)] * 9 + [{}])
    assert not compare_answers(spec(), reference, other, [(8, 8)] * 10)["passed"]


def boxes(*found: tuple[list[float], int, float]) -> dict[str, Any]:
    return {
        "detection_boxes": [box for box, _, _ in found],
        "detection_label_ids": [label for _, label, _ in found],
        "detection_scores": [score for _, _, score in found],
    }


@pytest.mark.parametrize(
    ("other", "matched"),
    [
        (boxes(([0, 0, 10, 10], 1, 0.9)), 1.0),
        (boxes(([0, 0, 10, 9.5], 1, 0.4)), 1.0),
        (boxes(([0, 0, 10, 8], 1, 0.9)), 0.0),
        (boxes(([0, 0, 10, 10], 2, 0.9)), 0.0),
        (boxes(([0, 0, 10, 10], 1, 0.9), ([0, 0, 10, 10], 1, 0.8)), 0.5),
        (boxes(([0, 0, 10, 10], 1, 0.9), ([50, 50, 60, 60], 1, 0.1)), 1.0),
        (boxes(), 0.0),
    ],
)
def test_boxes_are_matched_by_label_and_overlap(other: dict[str, Any], matched: float) -> None:
    reference = columns("detection", [boxes(([0, 0, 10, 10], 1, 0.9))])
    found = compare_answers(spec("detection", "detection"), reference, columns("detection", [other]), [(100, 100)])
    assert found["matched_boxes"] == matched
    assert found["passed"] == (matched == 1)


def test_without_a_single_sure_box_nothing_is_proven() -> None:
    nothing = columns("detection", [boxes()])
    assert not compare_answers(spec("detection", "detection"), nothing, nothing, [(9, 9)])["passed"]


@pytest.mark.parametrize(("wrong", "passed"), [(0, True), (9, True), (11, False)])
def test_segments_agree_by_pixels(wrong: int, passed: bool) -> None:
    mask = np.zeros((25, 40), np.bool_)
    mask[:10] = True
    other = mask.copy()
    other[20, :wrong] = True
    rows = [[{"segmentation_label_ids": [2], "segmentation_masks": [encode_mask(each)]}] for each in (mask, other)]
    one, two = (columns("segmentation", each) for each in rows)
    found = compare_answers(spec("segmentation", "segmentation"), one, two, [(40, 25)])
    assert found["same_pixels"] == 1 - wrong / 1000
    assert found["passed"] == passed


@pytest.mark.parametrize(("angle", "passed"), [(0.0, True), (0.04, True), (0.05, False)])
def test_vectors_agree_by_their_angle(angle: float, passed: bool) -> None:
    one = columns("embedding", [{"embedding_vector": [1.0, 0.0]}, {"embedding_vector": [0.0, 3.0]}])
    turned = [float(np.cos(angle)), float(np.sin(angle))]
    two = columns("embedding", [{"embedding_vector": turned}, {"embedding_vector": [0.0, 1.0]}])
    found = compare_answers(spec("embedding", "embedding", dimension=2), one, two, [(8, 8)] * 2)
    assert found["smallest_cosine"] == pytest.approx(np.cos(angle), abs=1e-6)
    assert found["passed"] == passed
