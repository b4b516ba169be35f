"""A polygon covers exactly the pixels of its mask, by COCO's rasteriser and by Pillow's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from cvbatch.export.polygons import Polygon, mask_to_polygons
from cvbatch.tasks.masks import decode_mask

Mask = npt.NDArray[np.bool_]


def fill(polygons: list[Polygon], height: int, width: int) -> Mask:
    """What COCO's tools make of polygons."""
    if not polygons:
        return np.zeros((height, width), np.bool_)
    encoded = coco.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width)
    return decode_mask(coco.merge(encoded)["counts"], height, width)


def winding_numbers(polygons: list[Polygon], height: int, width: int) -> npt.NDArray[np.int64]:
    """How often the polygons go around the centre of each pixel, clockwise."""
    numbers = np.zeros((height, width), np.int64)
    for polygon in polygons:
        for (x, y), (next_x, next_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            assert x == next_x or y == next_y
            # a ray to the right from the centre of each pixel crosses this edge
            numbers[min(y, next_y) : max(y, next_y), :x] += np.sign(next_y - y)
    return numbers


RING = np.pad(np.pad(np.zeros((2, 2), bool), 1, constant_values=True), 1)
MASKS = {
    "one pixel": np.ones((1, 1), bool),
    "all pixels": np.ones((3, 4), bool),
    "a hole": RING,
    "two holes side by side": np.hstack([RING[:, :-1], RING[:, 1:]]),
    "a hole above a hole": np.vstack([RING[:-1], RING[1:]]),
    "an island in a hole": np.pad(np.pad(RING, 1), 1, constant_values=True),
    "touching at corners": np.eye(4, dtype=bool) | np.eye(4, dtype=bool)[::-1],
    "a chess board": (np.indices((6, 7)).sum(axis=0) % 2).astype(bool),
    "a chess board with a frame": np.pad((np.indices((6, 7)).sum(axis=0) % 2).astype(bool), 1, constant_values=True),
    "nothing": np.zeros((3, 3), bool),
}


@pytest.mark.parametrize("name", MASKS)
def test_known_masks(name: str) -> None:
    check(MASKS[name])


@settings(max_examples=400, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask(mask: Mask) -> None:
    check(mask)


def check(mask: Mask) -> None:
    height, width = mask.shape
    polygons = mask_to_polygons(mask)
    assert np.array_equal(fill(polygons, height, width), mask)
    assert np.array_equal(winding_numbers(polygons, height, width), mask)
    assert len(polygons) == count_parts(mask)


def count_parts(mask: Mask) -> int:
    """Parts whose pixels share an edge."""
    remaining, parts = {tuple(pixel) for pixel in np.argwhere(mask).tolist()}, 0
    while remaining:
        parts += 1
        waiting = [remaining.pop()]
        while waiting:
            row, column = waiting.pop()
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & remaining
            remaining -= near
            waiting += near
    return parts


def test_a_large_smooth_mask_has_few_corners() -> None:
    rows, columns = np.indices((480, 640))
    disc = (rows - 200) ** 2 + (columns - 300) ** 2 < 150**2
    (polygon,) = mask_to_polygons(disc)
    assert len(polygon) < 1200
    assert np.array_equal(fill([polygon], 480, 640), disc)
