"""Boxes of many images are matched at once as the boxes of each image alone."""

from __future__ import annotations

import numpy as np

from cvbatch.comparison.box_matching import match_boxes
from cvbatch.tasks.box_overlap import count_matches


def test_matches_equal_those_of_each_image() -> None:
    generator = np.random.default_rng(1)
    keys = [generator.integers(0, 10, 400) for _ in range(2)]
    corners = [generator.uniform(0, 20, (400, 2)) for _ in range(2)]
    boxes = [np.concatenate([corner, corner + generator.uniform(2, 15, (400, 2))], axis=1) for corner in corners]
    first, second = match_boxes(keys[0], boxes[0], keys[1], boxes[1], 0.5)
    assert len(set(first.tolist())) == len(first) > 50
    assert len(set(second.tolist())) == len(second)
    assert (keys[0][first] == keys[1][second]).all()
    for key in range(10):
        sides = [(box[number == key], number[number == key]) for box, number in zip(boxes, keys, strict=True)]
        assert (keys[0][first] == key).sum() == count_matches(sides[0], sides[1], 0.5)


def test_without_boxes_there_are_no_matches() -> None:
    keys, boxes = np.zeros(0, np.int64), np.zeros((0, 4))
    one, box = np.zeros(1, np.int64), np.array([[0.0, 0, 1, 1]])
    assert [len(side) for side in match_boxes(keys, boxes, one, box, 0.5)] == [0, 0]
    assert [side.tolist() for side in match_boxes(one, box, one, box, 0.5)] == [[0], [0]]
