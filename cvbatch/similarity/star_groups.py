"""Groups of alike vectors around representatives, in memory that grows with the vectors and not with the pairs.

The vectors come in the order of preference. A vector joins a group if its cosine with the group's representative
reaches the threshold, else it begins a group. So each member is linked directly with its representative, and no two
representatives are alike: whoever keeps only the representatives has no pair left that reaches the threshold. Linking
pairs to chains, as connected components do, would put a and c into one group because both are like b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.product_screen import Encoded, ProductScreen, choose_screen
from cvbatch.similarity.sketch import SLACK, choose_basis, encode_sketches

Ids = npt.NDArray[np.int64]
Alike = tuple[Ids, Ids, npt.NDArray[np.float32]]
"""Positions of two vectors, and their cosine: (n,) each."""

_BLOCK_ROWS: Final = 1024
_TILE_ROWS: Final = 4096
"""A tile of products of a block with earlier representatives stays in the cache."""
_DENSE_SHARE: Final = 1 / 64
"""Share of candidates in a tile from which on the whole tile is computed in float32."""
ROUNDING: Final = 1e-6
"""A cosine this little below the threshold reaches it: equal vectors may have 0.9999999."""


@dataclass(frozen=True, slots=True)
class StarGroups:
    """To which representative each vector belongs."""

    representatives: Ids
    """Number of the representative's vector, (n,); a representative has its own."""
    cosines: npt.NDArray[np.float32]
    """Cosine with the representative, (n,)."""
    products: str
    """Which products were computed, and how wide."""


def group_around_representatives(
    vectors: VectorFile,
    order: Ids,
    threshold: float,
    *,
    known: int = 0,
    report: Callable[[int, int], None] = lambda done, rows: None,
) -> StarGroups:
    """Group vectors.

    Args:
        vectors: All vectors.
        order: Their numbers in the order of preference, (n,).
        threshold: Smallest cosine of a member with its representative.
        known: The first vectors of `order` are known to be representatives, and are not compared with each other.
        report: Receives the number of vectors that are grouped, and of all.
    """
    basis = choose_basis(vectors, threshold)
    screen = choose_screen(len(order), basis.width)
    sketches = encode_sketches(vectors, basis, screen)[order]
    grouping = _Grouping(vectors, order, sketches, screen, threshold, known)
    for start in range(known, len(order), _BLOCK_ROWS):
        report(start, len(order))
        grouping.add_block(start, min(start + _BLOCK_ROWS, len(order)))
    kind = f"{screen.name} products of {basis.width} of {vectors.dimension} numbers"
    return StarGroups(grouping.representatives, grouping.cosines, kind)


class _Grouping:
    """The representatives so far; their sketches are moved to the front of the array of all sketches."""

    def __init__(
        self, vectors: VectorFile, order: Ids, sketches: Encoded, screen: ProductScreen, threshold: float, known: int
    ) -> None:
        self._vectors, self._order, self._sketches, self._screen = vectors, order, sketches, screen
        self._threshold = threshold - ROUNDING
        self._leaders = np.empty(len(order), np.int64)
        self._leaders[:known] = order[:known]
        self._leader_count = known
        self.representatives = np.arange(len(vectors))
        self.cosines = np.ones(len(vectors), np.float32)

    def add_block(self, start: int, stop: int) -> None:
        """Group the vectors at these places of the order; all before are grouped."""
        rows, sketches = self._order[start:stop], self._sketches[start:stop].copy()
        best, nearest = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
        for low in range(0, self._leader_count, _TILE_ROWS):
            high = min(low + _TILE_ROWS, self._leader_count)
            leaders = self._leaders[low:high]
            alike = self._find_alike(rows, sketches, leaders, self._sketches[low:high])
            _keep_nearest(best, nearest, alike, leaders)
        self._group_among_themselves(rows, sketches, best, nearest)
        is_member = best > -np.inf
        self.representatives[rows[is_member]] = nearest[is_member]
        self.cosines[rows[is_member]] = np.minimum(best[is_member], 1)
        count = self._leader_count + int(np.count_nonzero(~is_member))
        self._leaders[self._leader_count : count] = rows[~is_member]
        self._sketches[self._leader_count : count] = sketches[~is_member]
        self._leader_count = count

    def _group_among_themselves(
        self, rows: Ids, sketches: Encoded, best: npt.NDArray[np.float32], nearest: Ids
    ) -> None:
        """Let vectors that joined no earlier group join each other: one without a representative before it is one."""
        free = np.flatnonzero(best == -np.inf)
        first, second, cosines = self._find_alike(rows[free], sketches[free], rows[free], sketches[free])
        if len(first) == len(free):  # each is alike itself only
            return
        table = np.full((len(free), len(free)), -np.inf, np.float32)
        table[first, second] = cosines
        is_alike = table > -np.inf
        is_representative = np.ones(len(free), np.bool_)
        for row in np.flatnonzero(np.count_nonzero(is_alike, axis=1) > 1):
            if is_representative[row]:
                is_representative[row + 1 :] &= ~is_alike[row, row + 1 :]
        table[:, ~is_representative] = -np.inf
        members = np.flatnonzero(~is_representative)
        columns = table[members].argmax(axis=1)
        best[free[members]] = table[members, columns]
        nearest[free[members]] = rows[free[columns]]

    def _find_alike(self, rows: Ids, sketches: Encoded, others: Ids, other_sketches: Encoded) -> Alike:
        """Pairs whose cosine reaches the threshold; each candidate is checked with the whole vectors."""
        first, second = self._screen.find_candidates(sketches, other_sketches, self._threshold - SLACK)
        if len(first) > len(rows) * len(others) * _DENSE_SHARE:
            products = self._vectors.unit_vectors(rows) @ self._vectors.unit_vectors(others).T
            first, second = np.nonzero(products >= self._threshold - SLACK)
        cosines = self._vectors.pair_cosines(rows[first], others[second])
        is_alike = cosines >= self._threshold
        return first[is_alike], second[is_alike], cosines[is_alike].astype(np.float32)


def _keep_nearest(best: npt.NDArray[np.float32], nearest: Ids, alike: Alike, others: Ids) -> None:
    """Put the most alike of `others` into `best` and `nearest` where it is better than what is there."""
    first, second, cosines = alike
    order = np.lexsort((cosines, first))
    first, second, cosines = first[order], second[order], cosines[order]
    is_last = np.append(first[1:] != first[:-1], True)[: len(first)]
    first, second, cosines = first[is_last], second[is_last], cosines[is_last]
    is_better = cosines > best[first]
    best[first[is_better]] = cosines[is_better]
    nearest[first[is_better]] = others[second[is_better]]
