"""Boxes are matched as a search through all pairs matches them."""

from __future__ import annotations

import numpy as np

from cvbatch.sampling.box_pairs import find_counterparts
from cvbatch.tasks.box_overlap import count_matches


def test_boxes_that_are_clear_are_matched_as_by_hand() -> None:
    random = np.random.default_rng(0)
    corners = random.integers(0, 400, (300, 2)).astype(float)
    boxes = np.concatenate([corners, corners + random.integers(5, 60, (300, 2))], axis=1)
    moved = (boxes + random.normal(0, 4, boxes.shape))[random.permutation(300)[:250]]
    keys, moved_keys = random.integers(0, 20, 300), random.integers(0, 20, 250)
    matched, moved_matched = find_counterparts(keys, boxes, moved_keys, moved)
    assert matched.sum() == moved_matched.sum()
    by_hand = 0
    for key in range(20):
        first, second = boxes[keys == key], moved[moved_keys == key]
        by_hand += count_matches((first, np.zeros(len(first), int)), (second, np.zeros(len(second), int)), 0.5)
    assert matched.sum() == by_hand > 5


def test_one_box_has_one_counterpart() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], float)
    keys = np.array([1, 1, 1])
    matched, others = find_counterparts(keys, boxes, np.array([1, 2]), boxes[[0, 2]])
    assert matched.tolist() == [True, False, False]
    assert others.tolist() == [True, False]
    nothing = find_counterparts(keys[:0], boxes[:0], keys, boxes)
    assert [part.tolist() for part in nothing] == [[], [False] * 3]
