"""Places are those of a plain loop over all boxes, whatever the tree leaves out beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask

from cvbatch.repeats.place_groups import NO_PLACE, group_places, overlap_with


def places_of_plain_loop(boxes: np.ndarray, images: np.ndarray, scores: np.ndarray, overlap: float, count: int) -> list:
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    shares = mask.iou(sizes, sizes, [0] * len(boxes))
    places, place = [NO_PLACE] * len(boxes), 0
    for first in np.argsort(-scores, kind="stable"):
        members = [
            other for other in range(len(boxes)) if places[other] == NO_PLACE and shares[first, other] >= overlap
        ]
        if places[first] == NO_PLACE and len({images[member] for member in members}) >= count:
            for member in members:
                places[member] = place
            place += 1
    return places


@pytest.mark.parametrize(("overlap", "count"), [(0.85, 3), (0.7, 5), (0.5, 4), (1.0, 2)])
def test_places_are_those_of_a_plain_loop(overlap: float, count: int) -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((40, 2)) * 0.8
    fixed = np.concatenate([corners, corners + rng.uniform(0.02, 0.2, (40, 2))], axis=1)
    boxes = fixed[rng.integers(0, 40, 400)] + rng.normal(0, 0.003, (400, 4)) * (rng.random((400, 1)) > 0.3)
    images, scores = rng.integers(0, 150, 400), rng.random(400).astype(np.float32)
    groups = group_places(boxes, images, scores, overlap, count)
    expected = places_of_plain_loop(boxes, images, scores, overlap, count)
    assert groups.places.tolist() == expected
    assert len(set(expected)) > 5
    assert (groups.overlaps[groups.places != NO_PLACE] >= overlap - 1e-6).all()


def test_many_boxes_of_one_image_are_no_place() -> None:
    boxes = np.tile([0.1, 0.1, 0.2, 0.2], (30, 1))
    groups = group_places(boxes, np.repeat([1, 2], 15), np.ones(30, np.float32), 0.85, 3)
    assert set(groups.places.tolist()) == {NO_PLACE}


def test_overlap_is_that_of_pycocotools() -> None:
    rng = np.random.default_rng(1)
    corners = rng.random((50, 2))
    boxes = np.concatenate([corners, corners + rng.random((50, 2)) + 0.01], axis=1)
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    np.testing.assert_allclose(overlap_with(boxes[0], boxes), mask.iou(sizes[:1], sizes, [0] * 50)[0], atol=1e-12)
