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

from cvbatch.engine.cluster_tasks import ClusterTasks
from cvbatch.similarity.cluster_search import BATCH_ROWS, ClusterSearch
from cvbatch.similarity.image_vectors import VectorFile
from cvbatch.similarity.product_screen import choose_screen
from cvbatch.similarity.representatives import Ids, Nearest, Representatives
from cvbatch.similarity.sketch import choose_basis, encode_sketches

_BLOCK_ROWS: Final = 1024


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
    tasks: ClusterTasks | None = None,
    report: Callable[[int, int], None] = lambda done, rows: None,
) -> StarGroups:
    """Group vectors.

    Args:
        vectors: All vectors.
        order: Their numbers in the order of preference, (n,).
        threshold: Smallest cosine of a member with its representative.
        known: The first vectors of `order` are known to be representatives, and are not compared with each other.
        tasks: A cluster that compares with earlier representatives; the groups are the same.
        report: Receives the number of vectors that are grouped, and of all.
    """
    basis = choose_basis(vectors, threshold)
    screen = choose_screen(len(order), basis.width)
    sketches = encode_sketches(vectors, basis, screen)[order]
    groups = Representatives(vectors, order, sketches, screen, threshold, known)
    if tasks is None:
        _add_blocks(groups, known, len(order), report=lambda done: report(done, len(order)))
    else:
        search = ClusterSearch(tasks, groups, screen)
        for start in range(known, len(order), BATCH_ROWS):
            report(start, len(order))
            stop, compared = min(start + BATCH_ROWS, len(order)), search.published
            nearest = search.find_nearest(order[start:stop], groups.sketches_of(start, stop))
            _add_blocks(groups, start, stop, nearest, compared)
            search.publish()
    kind = f"{screen.name} products of {basis.width} of {vectors.dimension} numbers"
    return StarGroups(groups.groups, groups.cosines, kind)


def _add_blocks(
    groups: Representatives,
    start: int,
    stop: int,
    nearest: Nearest | None = None,
    compared: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Group vectors block by block; `nearest` is of all of them."""
    for low in range(start, stop, _BLOCK_ROWS):
        report(low)
        high = min(low + _BLOCK_ROWS, stop)
        groups.add_block(low, high, nearest.part(low - start, high - start) if nearest else None, compared)
