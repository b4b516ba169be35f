"""Groups boxes that are at one place in many images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.system.extras import import_extra

Corners = npt.NDArray[np.float64]
"""x_min, y_min, x_max, y_max, (n, 4)."""
Ids = npt.NDArray[np.int64]

NO_PLACE: Final = -1


@dataclass(frozen=True, slots=True)
class PlaceGroups:
    """Place of each box, (n,)."""

    places: Ids
    """Number of the place, or `NO_PLACE`."""
    overlaps: npt.NDArray[np.float32]
    """Intersection over union with the first box of the place."""


def group_places(
    boxes: Corners, images: Ids, scores: npt.NDArray[np.float32], overlap: float, count: int
) -> PlaceGroups:
    """Group boxes around those with the best scores.

    A place has a first box, and all boxes that overlap with it enough and belong to no earlier place, from at least so
    many images.

    Args:
        boxes: Corners as shares of width and height, (n, 4).
        images: Image of each box, (n,).
        scores: The box with the best score is tried first, (n,).
        overlap: Smallest intersection over union with the first box.
        count: Smallest number of images.
    """
    places, overlaps = np.full(len(boxes), NO_PLACE), np.zeros(len(boxes), np.float32)
    if len(np.unique(images)) < count:
        return PlaceGroups(places, overlaps)
    # with an intersection over union of t, no side is moved by more than (1 - t) / t of the box
    reach = (1 - overlap) / overlap * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) + 1e-9
    tree = _make_tree(boxes)
    neighbours = tree.query_ball_point(boxes, reach, p=np.inf, return_length=True)
    tried = np.flatnonzero(neighbours >= count)
    place = 0
    for first in tried[np.argsort(-scores[tried], kind="stable")].tolist():
        if places[first] != NO_PLACE:
            continue
        near = np.array(tree.query_ball_point(boxes[first], reach[first], p=np.inf))
        near = near[places[near] == NO_PLACE]
        shares = overlap_with(boxes[first], boxes[near])
        members = shares >= overlap
        if len(np.unique(images[near[members]])) >= count:
            places[near[members]], overlaps[near[members]] = place, shares[members]
            place += 1
    return PlaceGroups(places, overlaps)


def overlap_with(box: npt.NDArray[np.float64], boxes: Corners) -> npt.NDArray[np.float64]:
    """Intersection over union of one box (4,) with others (n, 4): (n,)."""
    corners = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.prod(np.clip(corners, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    shares: npt.NDArray[np.float64] = common / (areas - common)
    return shares


def _make_tree(boxes: Corners) -> Any:
    return import_extra("scipy.spatial", "repeats", "cvbatch repeats").cKDTree(boxes)
