"""The images that a cell of a confusion matrix has most from, a few for each cell."""

from __future__ import annotations

import heapq
from typing import Final

Cell = tuple[int, int]
MOST_EXAMPLES: Final = 4


class CellExamples:
    """Keeps the images with the most in each cell."""

    def __init__(self) -> None:
        self._heaps: dict[Cell, list[tuple[int, int]]] = {}

    def add(self, cell: Cell, count: int, image: int) -> None:
        """Count an image.

        Args:
            cell: Numbers of the true class and of the answer.
            count: How much of the image is in the cell.
            image: Its position in the truth.
        """
        heap = self._heaps.setdefault(cell, [])
        entry = (count, -image)  # of equal counts the first image stays
        if len(heap) < MOST_EXAMPLES:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def by_cell(self) -> dict[Cell, list[int]]:
        """Positions of the images of each cell, those with the most first."""
        return {cell: [-image for _, image in sorted(heap, reverse=True)] for cell, heap in self._heaps.items()}
