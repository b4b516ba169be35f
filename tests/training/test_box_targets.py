"""Boxes as targets: cut, numbered, and refused where they cannot be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.training.box_targets import box_targets
from cvbatch.training.target_column import Targets
from cvbatch.truth.objects import ObjectTruth

NAMES = ("bird", "cat", "dog")


def targets_of(objects: list[tuple[int, int, list[float]]], **parts: Any) -> Targets:
    """Two images of 100 × 80, in another order than in the truth; objects have image, label and box."""
    truth = ObjectTruth(
        source="truth.json",
        layout="COCO JSON",
        image_names=["a.jpg", "b.jpg", "c.jpg"],
        categories=NAMES,
        image_indices=np.array([image for image, _, _ in objects], np.int64),
        labels=np.array([label for _, label, _ in objects], np.int64),
        boxes=np.array([box for _, _, box in objects], np.float64).reshape(-1, 4),
        **{"is_crowd": np.zeros(len(objects), np.bool_), **parts},
    )
    return box_targets(truth, np.array([2, 0]), pa.table({WIDTH: [100, 100], HEIGHT: [80, 80]}))


def test_boxes_are_cut_to_the_image_and_classes_without_boxes_left_out() -> None:
    targets = targets_of([(0, 2, [90, 70, 30, 30]), (1, 1, [0, 0, 5, 5]), (0, 0, [-5, 10, 20, 20])])
    assert targets.categories == (None, "bird", "dog")
    assert targets.counts == {"bird": 1, "dog": 1}
    assert targets.column.to_pylist() == [
        {"label_ids": [], "boxes": [], "crowds": []},
        {"label_ids": [2, 1], "boxes": [[90, 70, 100, 80], [0, 10, 15, 30]], "crowds": [False, False]},
    ]
    assert targets.strata.tolist() == [-1, 0]
    assert targets.notes == ["classes of the truth without a box are left out: cat"]


def test_relative_boxes_are_in_pixels_of_their_image() -> None:
    targets = targets_of([(2, 0, [0.1, 0.5, 0.2, 0.25])], is_relative=True)
    np.testing.assert_allclose(targets.column.to_pylist()[0]["boxes"], [[10, 40, 30, 60]], rtol=1e-6)


def test_some_boxes_outside_are_left_out_and_named() -> None:
    inside = [(0, 0, [1.0, 1.0, 9.0, 9.0])] * 2
    targets = targets_of([*inside, (0, 0, [200, 10, 20, 20])])
    assert targets.counts == {"bird": 2}
    assert targets.notes[0].startswith("boxes outside of their image, or of no pixel, take no part: 1, such as [200.0")


@pytest.mark.parametrize(
    ("objects", "parts", "message"),
    [
        ([], {}, "expected boxes to learn from, got none in 2 images"),
        ([(1, 0, [0, 0, 5, 5])], {}, "expected boxes to learn from, got none in 2 images"),
        ([(0, 0, [0, 0, 5, 5])], {"is_crowd": np.ones(1, np.bool_)}, "expected boxes to learn from"),
        ([(0, 0, [0.1, 0.1, 0.2, 0.2])], {}, r"1 of 1 lie outside or have no pixel, such as \[0.1, 0.1, 0.2, 0.2\]"),
        ([(0, 0, [np.nan, 0, 5, 5])], {}, "lie outside"),
        (
            [(0, 0, [0, 0, 5, 5])],
            {"sizes": np.array([[100, 80], [0, 0], [50, 40]], np.int32)},
            "got 50 × 40 for c.jpg, which has 100 × 80",
        ),
    ],
)
def test_boxes_that_cannot_be_learned_are_refused(objects: Any, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        targets_of(objects, **parts)
