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
    rows = [classified(index % 3, 0.5) for index in range(200)]
    other_columns = [classified(index % 3, 0.505) for index in range(200)]
    other_columns[7] = classified(9, 0.505)
    agreement = compare_answers(
        spec(), columns("classification", rows), columns("classification", other_columns), [(8, 8)] * 200
    )
    assert agreement["same_label"] == 0.995
    assert agreement["mean_score_difference"] == pytest.approx(0.005, abs=1e-6)
    assert agreement["passed"]


@pytest.mark.parametrize(("label_id", "score"), [(1, 0.5), (0, 0.52)])
def test_different_labels_or_scores_do_not_agree(label_id: int, score: float) -> None:
    reference = columns("classification", [classified(0, 0.5)] * 50)
    other_columns = columns("classification", [classified(0, score)] * 48 + [classified(label_id, score)] * 2)
    assert not compare_answers(spec(), reference, other_columns, [(8, 8)] * 50)["passed"]


def test_an_image_that_fails_at_one_setting_only_does_not_agree() -> None:
    reference = columns("classification", [classified(0, 0.5)] * 10)
    other_columns = columns("classification", [classified(0, 0.5)] * 9 + [{}])
    assert not compare_answers(spec(), reference, other_columns, [(8, 8)] * 10)["passed"]


def boxes(*predictions: tuple[list[float], int, float]) -> dict[str, Any]:
    return {
        "detection_boxes": [box for box, _, _ in predictions],
        "detection_label_ids": [label for _, label, _ in predictions],
        "detection_scores": [score for _, _, score in predictions],
    }


@pytest.mark.parametrize(
    ("other_columns", "matched"),
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
def test_boxes_are_matched_by_label_and_overlap(other_columns: dict[str, Any], matched: float) -> None:
    reference = columns("detection", [boxes(([0, 0, 10, 10], 1, 0.9))])
    agreement = compare_answers(
        spec("detection", "detection"), reference, columns("detection", [other_columns]), [(100, 100)]
    )
    assert agreement["matched_boxes"] == matched
    assert agreement["passed"] == (matched == 1)


def test_without_a_confident_box_the_comparison_fails() -> None:
    nothing = columns("detection", [boxes()])
    assert not compare_answers(spec("detection", "detection"), nothing, nothing, [(9, 9)])["passed"]


@pytest.mark.parametrize(("wrong", "passed"), [(0, True), (9, True), (11, False)])
def test_segments_agree_by_pixels(wrong: int, passed: bool) -> None:
    mask = np.zeros((25, 40), np.bool_)
    mask[:10] = True
    other_mask = mask.copy()
    other_mask[20, :wrong] = True
    rows = [
        [{"segmentation_label_ids": [2], "segmentation_masks": [encode_mask(pixels)]}] for pixels in (mask, other_mask)
    ]
    reference, changed = (columns("segmentation", predictions) for predictions in rows)
    agreement = compare_answers(spec("segmentation", "segmentation"), reference, changed, [(40, 25)])
    assert agreement["same_pixels"] == 1 - wrong / 1000
    assert agreement["passed"] == passed


@pytest.mark.parametrize(("angle", "passed"), [(0.0, True), (0.04, True), (0.05, False)])
def test_vectors_agree_by_their_angle(angle: float, passed: bool) -> None:
    reference = columns("embedding", [{"embedding_vector": [1.0, 0.0]}, {"embedding_vector": [0.0, 3.0]}])
    turned = [float(np.cos(angle)), float(np.sin(angle))]
    changed = columns("embedding", [{"embedding_vector": turned}, {"embedding_vector": [0.0, 1.0]}])
    agreement = compare_answers(spec("embedding", "embedding", dimension=2), reference, changed, [(8, 8)] * 2)
    assert agreement["smallest_cosine"] == pytest.approx(np.cos(angle), abs=1e-6)
    assert agreement["passed"] == passed
