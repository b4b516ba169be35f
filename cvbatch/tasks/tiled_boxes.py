"""The boxes of an image from those of its tiles.

A box that ends at the border between two tiles is a part of an object. It goes if another tile has more of the object;
parts that meet in the overlap of two tiles become one box. Of what is left, overlapping boxes of one class are one
object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size
from cvbatch.images.tiles import Tiles, Window
from cvbatch.tasks.base import ModelFacts, SuppressOverlaps, TileMerger
from cvbatch.tasks.box_overlap import pairwise_intersections, pairwise_iou
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.tasks.mask_runs import Runs, decode_runs, encode_runs, join_runs, move_runs

_OVERLAP: Final = 0.6
"""Intersection over union from which two boxes of one class are one object."""
_COVERED: Final = 0.7
"""Share of a part of an object that the box of another tile covers if it is of the same object."""
_SAME_EXTENT: Final = 0.5
"""Intersection over union of two parts along the border between their tiles from which they are one object."""
_SCORE_SHARE: Final = 0.5
"""Least score of a box, as a share of another one's, to be evidence about the other."""
_SIDE_SLACK: Final = 0.1
"""Share of a part's extent by which another tile may place the same side of an object elsewhere."""
_BORDER: Final = 0.01
"""Distance from the border of a tile, as a share of the tile's side, within which a box ends at it."""
_CHUNK_PAIRS: Final = 1 << 22

Indices = npt.NDArray[np.int64]
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _TileBoxes:
    """All boxes of an image, in its pixels; arrays are aligned."""

    boxes: Boxes
    """(n, 4)"""
    label_ids: npt.NDArray[np.integer[Any]]
    scores: npt.NDArray[np.floating[Any]]
    tile: Indices
    """Position of its tile."""
    is_cut: npt.NDArray[np.bool_]
    """(n, 4): whether its left, upper, right and lower side is at a border between tiles."""
    masks: list[bytes]
    """At the size of their tiles; empty if the model has none."""
    keypoints: npt.NDArray[np.floating[Any]] | None


class BoxMerger(TileMerger):
    """Collects the boxes of tiles.

    Args:
        model: The model that answers.
        tiles: How the image is cut.
        size: (width, height) of the image.
        suppress: Drops overlapping boxes.
    """

    def __init__(self, model: ModelFacts, tiles: Tiles, size: Size, suppress: SuppressOverlaps) -> None:
        self._model, self._tiles, self._size, self._suppress = model, tiles, size, suppress
        self._windows: list[Window] = []
        self._answers: list[BoxAnswer] = []

    def add_tile(self, window: Window, answer: BoxAnswer) -> None:
        """See `TileMerger.add_tile`."""
        self._windows.append(window)
        self._answers.append(answer)

    def join_tiles(self) -> BoxAnswer:
        """See `TileMerger.join_tiles`; the answer for a single tile is the answer for the image."""
        if len(self._answers) == 1:
            return self._answers[0]
        found = self._collect_boxes()
        neighbours = _overlapping_windows(self._windows)
        kept = np.flatnonzero(~_have_better(found, neighbours))
        parts, first = _parts_of_objects(found, kept, _touching_parts(found, neighbours, self._windows))
        best = parts[first]
        hulls = _hulls(found.boxes[parts], first)
        scores, label_ids = found.scores[best], found.label_ids[best]
        chosen = self._suppress(hulls, scores.astype(np.float64), label_ids.astype(np.int64), _OVERLAP)
        boxes = hulls[chosen]
        if self._tiles.merge == "wbf":
            boxes = _average_boxes(hulls, scores, label_ids, chosen)
        objects = np.split(parts, first[1:])
        return BoxAnswer(
            boxes=boxes.astype(np.float32),
            label_ids=label_ids[chosen],
            scores=scores[chosen],
            masks=[self._join_masks(found, objects[position]) for position in chosen] if self._model.masks else (),
            keypoints=None if found.keypoints is None else found.keypoints[best[chosen]],
        )

    def _collect_boxes(self) -> _TileBoxes:
        """Put the boxes of all tiles into one list, in pixels of the image."""
        counts = [len(answer.scores) for answer in self._answers]
        tile = np.repeat(np.arange(len(counts)), counts)
        windows = np.array(self._windows, np.float64)
        shifts = windows[tile][:, [1, 0, 1, 0]]
        boxes = np.concatenate([answer.boxes for answer in self._answers]).astype(np.float64) + shifts
        keypoints = [answer.keypoints for answer in self._answers if answer.keypoints is not None]
        return _TileBoxes(
            boxes=boxes,
            label_ids=np.concatenate([answer.label_ids for answer in self._answers]),
            scores=np.concatenate([answer.scores for answer in self._answers]),
            tile=tile,
            is_cut=_end_at_borders(boxes, windows[tile], self._size),
            masks=[mask for answer in self._answers for mask in answer.masks],
            keypoints=_moved_keypoints(np.concatenate(keypoints), shifts) if self._model.keypoints else None,
        )

    def _join_masks(self, found: _TileBoxes, parts: Indices) -> bytes:
        height, runs = self._size[1], list[Runs]()
        for part in parts.tolist():
            window = self._windows[found.tile[part]]
            runs.append(move_runs(decode_runs(found.masks[part]), window, height))
        return encode_runs(join_runs(runs), self._size)


def _moved_keypoints(keypoints: npt.NDArray[np.floating[Any]], shifts: Boxes) -> npt.NDArray[np.floating[Any]]:
    moved = keypoints.copy()
    moved[..., :2] += shifts[:, None, :2]
    return moved


def _end_at_borders(boxes: Boxes, windows: Boxes, size: Size) -> npt.NDArray[np.bool_]:
    """Whether each side of each box, (n, 4), is at the border between its tile and another one."""
    top, left, height, width = windows.T
    low, high = np.column_stack([left, top]), np.column_stack([left + width, top + height])
    margin = _BORDER * np.column_stack([width, height])
    at_low = (boxes[:, :2] <= low + margin) & (low > 0)
    at_high = (boxes[:, 2:] >= high - margin) & (high < np.array(size))
    return np.concatenate([at_low, at_high], axis=1)


def _overlapping_windows(windows: list[Window]) -> list[Indices]:
    """For each window the positions of the others that it touches."""
    top, left, height, width = np.array(windows).T
    neighbours = []
    for position, window in enumerate(windows):
        touches = (top <= window.top + window.height) & (window.top <= top + height)
        touches &= (left <= window.left + window.width) & (window.left <= left + width)
        touches[position] = False
        neighbours.append(np.flatnonzero(touches))
    return neighbours


def _have_better(found: _TileBoxes, neighbours: list[Indices]) -> npt.NDArray[np.bool_]:
    """Whether each box is a part of an object of which another tile has more."""
    is_part: npt.NDArray[np.bool_] = np.asarray(found.is_cut.any(axis=1))
    have_better = np.zeros(len(found.scores), np.bool_)
    areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
    for part, other in _pairs_between_tiles(found, neighbours, is_part, np.ones_like(is_part)):
        covered = pairwise_intersections(found.boxes[part], found.boxes[other]) >= _COVERED * areas[part, None]
        is_larger = (areas[other] > areas[part, None]) & _reach_as_far(found, part, other)
        has_more = ~is_part[other] | is_larger
        is_evidence = found.scores[other] >= _SCORE_SHARE * found.scores[part, None]
        is_same = found.label_ids[other] == found.label_ids[part, None]
        have_better[part] = (covered & has_more & is_evidence & is_same).any(axis=1)
    return have_better


def _reach_as_far(found: _TileBoxes, parts: Indices, others: Indices) -> npt.NDArray[np.bool_]:
    """Whether others (m,) have all sides of the objects that the parts (n,) show: (n, m)."""
    extents = found.boxes[parts, 2:] - found.boxes[parts, :2]
    slack = _SIDE_SLACK * np.tile(extents, 2)[:, None]
    beyond = (found.boxes[parts][:, None] - found.boxes[others]) * np.array([1, 1, -1, -1])
    reached: npt.NDArray[np.bool_] = ((beyond >= -slack) | found.is_cut[parts][:, None]).all(axis=2)
    return reached


def _touching_parts(found: _TileBoxes, neighbours: list[Indices], windows: list[Window]) -> npt.NDArray[np.int64]:
    """Pairs (n, 2) of boxes that are two parts of one object: they end at the two borders of one overlap."""
    begin = np.array([[window.left, window.top] for window in windows])[found.tile]
    pairs = [np.empty((0, 2), np.int64)]
    for along, across in ((0, 1), (1, 0)):  # side by side, and one above the other
        ends, begins = found.is_cut[:, along + 2], found.is_cut[:, along]
        for part, other in _pairs_between_tiles(found, neighbours, ends, begins):
            boxes, others = found.boxes[part][:, None], found.boxes[other]
            scores, other_scores = found.scores[part][:, None], found.scores[other]
            are_same = (
                (found.label_ids[part][:, None] == found.label_ids[other])
                & (begin[part][:, None, along] < begin[other][:, along])
                & (others[:, along] <= boxes[..., along + 2])
                & (_overlap_along(boxes, others, across) >= _SAME_EXTENT)
                & (np.minimum(scores, other_scores) >= _SCORE_SHARE * np.maximum(scores, other_scores))
            )
            rows, columns = np.nonzero(are_same)
            pairs.append(np.column_stack([part[rows], other[columns]]))
    return np.concatenate(pairs)


def _overlap_along(boxes: Boxes, others: Boxes, axis: int) -> Boxes:
    """Intersection over union of the extents along an axis."""
    in_both = np.minimum(boxes[..., axis + 2], others[:, axis + 2]) - np.maximum(boxes[..., axis], others[:, axis])
    in_any = np.maximum(boxes[..., axis + 2], others[:, axis + 2]) - np.minimum(boxes[..., axis], others[:, axis])
    overlap: Boxes = in_both / in_any
    return overlap


def _pairs_between_tiles(
    found: _TileBoxes, neighbours: list[Indices], these: npt.NDArray[np.bool_], those: npt.NDArray[np.bool_]
) -> Iterator[tuple[Indices, Indices]]:
    """Yield, for each tile that has some of `these`, their positions and those of `those` in the tiles around it."""
    bounds = np.searchsorted(found.tile, np.arange(len(neighbours) + 1))
    by_tile = [np.arange(low, high) for low, high in pairwise(bounds)]
    for tile, around in enumerate(neighbours):
        part = by_tile[tile][these[by_tile[tile]]]
        if not len(part) or not len(around):
            continue
        other = np.concatenate([by_tile[neighbour] for neighbour in around])
        other = other[those[other]]
        if len(other):
            yield part, other


def _parts_of_objects(found: _TileBoxes, kept: Indices, pairs: npt.NDArray[np.int64]) -> tuple[Indices, Indices]:
    """Group the kept boxes by object.

    Returns:
        The boxes, object by object and the best of each first; and where in this list each object begins.
    """
    is_kept = np.zeros(len(found.scores), np.bool_)
    is_kept[kept] = True
    pairs = pairs[is_kept[pairs].all(axis=1)]
    group, before = np.arange(len(found.scores)), np.array([-1])
    while not np.array_equal(group, before):  # as often as the longest object has parts
        before = group.copy()
        for one, other in (pairs.T, pairs.T[::-1]):
            np.minimum.at(group, one, group[other])
    order = np.lexsort((-found.scores[kept], group[kept]))
    parts = kept[order]
    return parts, np.flatnonzero(np.diff(group[parts], prepend=-1))


def _hulls(boxes: Boxes, first: Indices) -> Boxes:
    """Return the smallest box around each object."""
    if not len(boxes):
        return boxes
    low, high = np.minimum.reduceat(boxes[:, :2], first), np.maximum.reduceat(boxes[:, 2:], first)
    return np.concatenate([low, high], axis=1)


def _average_boxes(boxes: Boxes, scores: npt.NDArray[Any], label_ids: npt.NDArray[Any], chosen: Indices) -> Boxes:
    """Average each chosen box with those that overlap it most, weighted by their scores (arXiv:1910.13302)."""
    weighted, weights = boxes[chosen] * scores[chosen, None], scores[chosen].astype(np.float64)
    is_other = np.ones(len(boxes), np.bool_)
    is_other[chosen] = False
    others = np.flatnonzero(is_other)
    step = max(1, _CHUNK_PAIRS // max(1, len(chosen)))
    for low in range(0, len(others), step):
        part = others[low : low + step]
        overlaps = pairwise_iou(boxes[part], boxes[chosen]) * (label_ids[part][:, None] == label_ids[chosen])
        nearest = overlaps.argmax(axis=1)
        is_near = overlaps[np.arange(len(part)), nearest] > _OVERLAP
        np.add.at(weighted, nearest[is_near], boxes[part[is_near]] * scores[part[is_near], None])
        np.add.at(weights, nearest[is_near], scores[part[is_near]])
    averaged: Boxes = weighted / weights[:, None]
    return averaged
