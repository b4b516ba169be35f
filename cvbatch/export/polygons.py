"""Polygons of masks, along the edges of their pixels, so that a polygon covers exactly the pixels of its mask.

Contours through the centres of pixels, as OpenCV traces them, lack half a pixel on each side. These have whole numbers
as coordinates; COCO's rasteriser gives the same mask back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvbatch.tasks.masks import Mask

Polygon = npt.NDArray[np.int64]
"""(n, 2): x, y of its corners in pixels; the last one is joined to the first."""


def mask_to_polygons(mask: Mask) -> list[Polygon]:
    """Trace a mask.

    Pixels that touch only at a corner belong to different polygons. A polygon reaches the holes inside it over a cut
    without width, from the left, because the formats have no holes.

    Args:
        mask: Bool, (height, width).

    Returns:
        One polygon for each connected part, from the top; none for an empty mask. Clockwise on the screen, holes
        counter-clockwise, so that both rules for filling leave them out.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    corners = _find_corners(inside)
    rings = _trace_rings(corners)
    is_hole = [not inside[corners.y[ring[0]] + 1, corners.x[ring[0]] + 1] for ring in rings]
    nodes = _Nodes(corners.x.tolist(), corners.y.tolist(), rings, is_hole)
    if any(is_hole):
        edges = _edges_by_column(corners)
        cuts = [_cut_to_hole(inside, nodes, edges, ring) for ring, hole in zip(rings, is_hole, strict=True) if hole]
        nodes.splice(cuts)
    outer = [ring[0] for ring, hole in zip(rings, is_hole, strict=True) if not hole]
    return [nodes.points_from(start) + np.array([left, top]) for start in outer]


@dataclass(frozen=True, slots=True)
class _Corners:
    """Corners of the boundary from the top and then from the left; one where two parts touch is there twice.

    In this order, numbers `2 k` and `2 k + 1` are the ends of a horizontal edge.
    """

    x: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    by_column: npt.NDArray[np.int64]
    """Numbers of the corners from the left and then from the top: two by two the ends of a vertical edge."""


def _find_corners(inside: Mask) -> _Corners:
    """Find the corners, in coordinates of the mask inside its frame of one pixel."""
    above_left, above_right, below_left, below_right = (
        inside[:-1, :-1],
        inside[:-1, 1:],
        inside[1:, :-1],
        inside[1:, 1:],
    )
    is_odd = above_left ^ above_right ^ below_left ^ below_right
    is_touching = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    y, x = np.nonzero(is_odd | is_touching)
    is_touching_corner = is_touching[y, x]
    counts = 1 + is_touching_corner
    ends = np.cumsum(counts)
    is_second = np.zeros(int(ends[-1]), np.bool_)
    is_second[(ends - 1)[is_touching_corner]] = True
    y, x = np.repeat(y, counts), np.repeat(x, counts)
    # the end of the left edge goes on upwards where the part lies above it, else downwards
    goes_down = is_second ^ (is_touching[y, x] & above_right[y, x])
    return _Corners(x, y, np.lexsort((goes_down, y, x)))


def _trace_rings(corners: _Corners) -> list[list[int]]:
    """Closed rings of numbers of corners; each begins with its first corner and goes to the right."""
    order = corners.by_column
    vertical = np.empty(len(order), np.int64)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]
    partner, seen, rings = vertical.tolist(), bytearray(len(order)), []
    for start in range(0, len(order), 2):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            seen[corner] = seen[corner ^ 1] = 1
            ring += [corner, corner ^ 1]
            corner = partner[corner ^ 1]
        rings.append(ring)
    return rings


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a hole is reached: from a point of a vertical edge, straight to the right."""

    edge: tuple[int, int]
    """Numbers of its corners, the upper one first."""
    x: int
    y: int
    hole: int
    """Number of the first corner of the hole."""


class _Nodes:
    """Points that follow each other in closed rings."""

    def __init__(self, x: list[int], y: list[int], rings: Sequence[Sequence[int]], is_hole: Sequence[bool]) -> None:
        self.x, self.y = x, y
        self.following = [0] * len(x)
        for ring, hole in zip(rings, is_hole, strict=True):
            way = ring if not hole else [ring[0], *ring[:0:-1]]
            for node, after in zip(way, [*way[1:], way[0]], strict=True):
                self.following[node] = after

    def splice(self, cuts: Sequence[_Cut]) -> None:
        """Lead the ring of each cut's edge over the cut, around the hole, and back."""
        by_edge: dict[tuple[int, int], list[_Cut]] = {}
        for cut in sorted(cuts, key=lambda cut: cut.y):
            by_edge.setdefault(cut.edge, []).append(cut)
        for (upper, lower), in_order in by_edge.items():
            goes_down = self.following[upper] == lower
            node = upper if goes_down else lower
            for cut in in_order if goes_down else reversed(in_order):
                node = self._insert(node, cut)

    def points_from(self, start: int) -> Polygon:
        """The ring of a node, without points that repeat."""
        ring, node = [start], self.following[start]
        while node != start:
            ring.append(node)
            node = self.following[node]
        points = np.array([[self.x[node] for node in ring], [self.y[node] for node in ring]], np.int64).T
        repeats = (points == np.roll(points, 1, axis=0)).all(axis=1)
        polygon: Polygon = points[~repeats]
        return polygon

    def _insert(self, node: int, cut: _Cut) -> int:
        """Insert a cut after a node; returns the last new one."""
        last_of_hole = next_to = cut.hole
        while self.following[last_of_hole] != next_to:
            last_of_hole = self.following[last_of_hole]
        way_in, back, way_out = (
            self._add(*point) for point in ((cut.x, cut.y), (self.x[next_to], cut.y), (cut.x, cut.y))
        )
        after = self.following[node]
        for before, new in ((node, way_in), (way_in, next_to), (last_of_hole, back), (back, way_out), (way_out, after)):
            self.following[before] = new
        return way_out

    def _add(self, x: int, y: int) -> int:
        self.x.append(x)
        self.y.append(y)
        self.following.append(-1)
        return len(self.x) - 1


def _edges_by_column(corners: _Corners) -> dict[int, list[tuple[int, int]]]:
    """Vertical edges at each x, from the top, as numbers of their corners."""
    edges: dict[int, list[tuple[int, int]]] = {}
    order = corners.by_column.tolist()
    for upper, lower in zip(order[0::2], order[1::2], strict=True):
        edges.setdefault(int(corners.x[upper]), []).append((upper, lower))
    return edges


def _cut_to_hole(
    inside: Mask, nodes: _Nodes, edges: Mapping[int, Sequence[tuple[int, int]]], ring: Sequence[int]
) -> _Cut:
    """The cut from the first corner of a hole to the left, up to the next edge."""
    x, y = nodes.x[ring[0]], nodes.y[ring[0]]
    is_free = inside[y, : x + 1] & inside[y + 1, : x + 1]
    end = int(np.flatnonzero(~is_free)[-1])
    edge = next((upper, lower) for upper, lower in edges[end] if nodes.y[upper] <= y <= nodes.y[lower])
    return _Cut(edge, end, y, ring[0])
