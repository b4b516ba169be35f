"""Images to look at first: those on which two runs differ most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

REVIEW_IMAGES: Final = 20
"""Images in the list by default."""


class ReviewList:
    """The images of highest priority, in memory that depends on their number only.

    Args:
        limit: Number of images.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[tuple[float, dict[str, Any]]] = []

    def add_images(self, priorities: npt.NDArray[np.floating[Any]], describe: Callable[[int], dict[str, Any]]) -> None:
        """Add images.

        Args:
            priorities: (images,): NaN for those that are not to be looked at.
            describe: Plain data about an image, by its position.
        """
        least = self._entries[-1][0] if len(self._entries) >= self._limit else -np.inf
        wanted = np.flatnonzero(priorities > least)
        best = wanted[np.argsort(-priorities[wanted], kind="stable")][: self._limit]
        self._entries += [(float(priorities[index]), describe(int(index))) for index in best]
        self._entries = sorted(self._entries, key=lambda entry: -entry[0])[: self._limit]

    def rows(self) -> list[dict[str, Any]]:
        """The images, those of highest priority first."""
        return [row for _, row in self._entries]
