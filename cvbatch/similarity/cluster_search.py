"""Compares vectors with the representatives so far on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from cvbatch.engine.cluster_tasks import ClusterTasks
from cvbatch.similarity.product_screen import Encoded, Positions, ProductScreen
from cvbatch.similarity.representatives import TILE_ROWS, Ids, Nearest, Representatives

BATCH_ROWS: Final = 65_536
"""Vectors that are compared at once; among themselves they are grouped by this process, in seconds."""
_PART_ROWS: Final = 1 << 18
"""Representatives that one task compares with: a minute of work."""
_BLOCK_ROWS: Final = 1024


class ClusterSearch:
    """Keeps the sketches of representatives in the object store of a cluster; only positions of candidates come back.

    Args:
        tasks: The cluster.
        representatives: Those so far; the vectors that are added later are published by `publish`.
        screen: Finds candidates.
    """

    def __init__(self, tasks: ClusterTasks, representatives: Representatives, screen: ProductScreen) -> None:
        self._tasks, self._representatives, self._screen = tasks, representatives, screen
        self._parts: list[tuple[int, int, Any]] = []
        self._published = 0
        self.publish()

    @property
    def published(self) -> int:
        """How many representatives a search compares with."""
        return self._published

    def publish(self) -> None:
        """Put the representatives that are new since the last call into the object store."""
        while self._published < self._representatives.count:
            low = self._published
            high = min(low + _PART_ROWS, self._representatives.count)
            self._parts.append((low, high, self._tasks.put(self._representatives.sketches_of(low, high).copy())))
            self._published = high

    def find_nearest(self, rows: Ids, sketches: Encoded) -> Nearest:
        """Compare vectors with all published representatives.

        Args:
            rows: Numbers of the vectors, (n,).
            sketches: Their sketches, (n, width).
        """
        nearest, shared = Nearest(len(rows)), self._tasks.put(sketches.copy())
        threshold = self._representatives.screen_threshold
        arguments = [(self._screen, shared, part, threshold) for _, _, part in self._parts]
        results = sorted(self._tasks.run_all(find_candidates_in_tiles, arguments), key=lambda result: result[0])
        for number, candidates in results:
            low, high, _ = self._parts[number]
            self._representatives.check_candidates(rows, low, high, candidates, nearest)
        return nearest


def find_candidates_in_tiles(screen: ProductScreen, first: Encoded, second: Encoded, threshold: float) -> Positions:
    """Find candidates in a large table of products, tile by tile; see `ProductScreen.find_candidates`."""
    found = [(rows + top, columns + low) for top, low, (rows, columns) in _iter_tiles(screen, first, second, threshold)]
    rows = np.concatenate([np.empty(0, np.int64), *(part[0] for part in found)])
    return rows, np.concatenate([np.empty(0, np.int64), *(part[1] for part in found)])


def _iter_tiles(
    screen: ProductScreen, first: Encoded, second: Encoded, threshold: float
) -> Iterator[tuple[int, int, Positions]]:
    for top in range(0, len(first), _BLOCK_ROWS):
        for low in range(0, len(second), TILE_ROWS):
            tile = second[low : low + TILE_ROWS]
            yield top, low, screen.find_candidates(first[top : top + _BLOCK_ROWS], tile, threshold)
