"""Representatives so far, and the vectors that join them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.product_screen import Encoded, Positions, ProductScreen
from cvbatch.similarity.sketch import SLACK

Ids = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float32]

TILE_ROWS: Final = 4096
"""A tile of products of a block with earlier representatives stays in the cache."""
_DENSE_SHARE: Final = 1 / 64
"""Share of candidates in a tile from which on the whole tile is computed in float32."""
ROUNDING: Final = 1e-6
"""A cosine this little below the threshold reaches it: equal vectors may have 0.9999999."""


class Nearest:
    """For each of some vectors the most alike representative, if one reaches the threshold.

    Args:
        count: Number of vectors.
    """

    def __init__(self, count: int) -> None:
        self.cosines: Cosines = np.full(count, -np.inf, np.float32)
        """Minus infinity without one."""
        self.numbers: Ids = np.zeros(count, np.int64)

    @property
    def is_member(self) -> npt.NDArray[np.bool_]:
        """Whether each has one."""
        is_member: npt.NDArray[np.bool_] = self.cosines > -np.inf
        return is_member

    def part(self, start: int, stop: int) -> Nearest:
        """A view of some of the vectors."""
        part = Nearest(0)
        part.cosines, part.numbers = self.cosines[start:stop], self.numbers[start:stop]
        return part

    def keep_better(self, first: Ids, numbers: Ids, cosines: Cosines) -> None:
        """Keep what is more alike than before.

        Args:
            first: Positions of vectors, (n,).
            numbers: The representative of each pair.
            cosines: The cosine of each pair.
        """
        order = np.lexsort((cosines, first))
        first, numbers, cosines = first[order], numbers[order], cosines[order]
        is_best = np.append(first[1:] != first[:-1], True)[: len(first)]
        first, numbers, cosines = first[is_best], numbers[is_best], cosines[is_best]
        is_better = cosines > self.cosines[first]
        self.cosines[first[is_better]] = cosines[is_better]
        self.numbers[first[is_better]] = numbers[is_better]


class Representatives:
    """Decides which vectors are representatives; their sketches are moved to the front of the array of all sketches.

    Args:
        vectors: All vectors.
        order: Their numbers in the order of preference, (n,).
        sketches: Their sketches in this order, (n, width); changed in place.
        screen: Finds candidates.
        threshold: Smallest cosine of a member with its representative.
        known: So many of the first vectors are representatives.
    """

    def __init__(
        self, vectors: VectorFile, order: Ids, sketches: Encoded, screen: ProductScreen, threshold: float, known: int
    ) -> None:
        self._vectors, self._order, self._sketches, self._screen = vectors, order, sketches, screen
        self._threshold = threshold - ROUNDING
        self._numbers = np.empty(len(order), np.int64)
        self._numbers[:known] = order[:known]
        self.count = known
        """Representatives so far."""
        self.groups = np.arange(len(vectors))
        """Number of the representative of each vector."""
        self.cosines = np.ones(len(vectors), np.float32)

    @property
    def screen_threshold(self) -> float:
        """For products of sketches."""
        return self._threshold - SLACK

    def sketches_of(self, start: int, stop: int) -> Encoded:
        """Sketches of the representatives from one number to another; or of vectors that are not grouped yet."""
        return self._sketches[start:stop]

    def add_block(self, start: int, stop: int, nearest: Nearest | None = None, compared: int = 0) -> None:
        """Group the vectors at these places of the order; all before are grouped.

        Args:
            start: First place.
            stop: End of the places.
            nearest: What is known from a comparison with the first representatives; changed in place.
            compared: How many representatives that were.
        """
        rows, sketches = self._order[start:stop], self._sketches[start:stop].copy()
        nearest = nearest or Nearest(len(rows))
        for low in range(compared, self.count, TILE_ROWS):
            high = min(low + TILE_ROWS, self.count)
            candidates = self._screen.find_candidates(sketches, self._sketches[low:high], self.screen_threshold)
            self.check_candidates(rows, low, high, candidates, nearest)
        self._group_among_themselves(rows, sketches, nearest)
        is_member = nearest.is_member
        self.groups[rows[is_member]] = nearest.numbers[is_member]
        self.cosines[rows[is_member]] = np.minimum(nearest.cosines[is_member], 1)
        count = self.count + int(np.count_nonzero(~is_member))
        self._numbers[self.count : count] = rows[~is_member]
        self._sketches[self.count : count] = sketches[~is_member]
        self.count = count

    def check_candidates(self, rows: Ids, low: int, high: int, candidates: Positions, nearest: Nearest) -> None:
        """Compute the cosines of candidates, and keep the best.

        Args:
            rows: Vectors.
            low: First representative of the tile.
            high: End of the tile.
            candidates: Positions in `rows` and in the tile.
            nearest: Of `rows`; changed in place.
        """
        numbers = self._numbers[low:high]
        first, second, cosines = self._check(rows, numbers, candidates)
        nearest.keep_better(first, numbers[second], cosines)

    def _group_among_themselves(self, rows: Ids, sketches: Encoded, nearest: Nearest) -> None:
        """Let vectors without a representative join each other: one with none of them before it becomes one."""
        free = np.flatnonzero(~nearest.is_member)
        first, second = self._screen.find_candidates(sketches[free], sketches[free], self.screen_threshold)
        is_later = first > second
        first, second, cosines = self._check(rows[free], rows[free], (first[is_later], second[is_later]))
        if not len(first):
            return
        table = np.full((len(free), len(free)), -np.inf, np.float32)
        table[first, second] = table[second, first] = cosines
        is_alike = table > -np.inf
        is_representative = np.ones(len(free), np.bool_)
        for row in np.flatnonzero(is_alike.any(axis=1)):
            if is_representative[row]:
                is_representative[row + 1 :] &= ~is_alike[row, row + 1 :]
        table[:, ~is_representative] = -np.inf
        members = np.flatnonzero(~is_representative)
        columns = table[members].argmax(axis=1)
        nearest.cosines[free[members]] = table[members, columns]
        nearest.numbers[free[members]] = rows[free[columns]]

    def _check(self, rows: Ids, others: Ids, candidates: Positions) -> tuple[Ids, Ids, Cosines]:
        """Pairs whose cosine reaches the threshold, with it."""
        first, second = candidates
        if len(first) > len(rows) * len(others) * _DENSE_SHARE:
            wanted = np.zeros((len(rows), len(others)), np.bool_)
            wanted[first, second] = True
            products = self._vectors.unit_vectors(rows) @ self._vectors.unit_vectors(others).T
            first, second = np.nonzero(wanted & (products >= self.screen_threshold))
        cosines = self._vectors.pair_cosines(rows[first], others[second], self._threshold)
        is_alike = cosines >= self._threshold
        return first[is_alike], second[is_alike], cosines[is_alike].astype(np.float32)
