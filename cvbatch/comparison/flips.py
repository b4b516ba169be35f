"""Which class became which, with examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_FLIPS: Final = 50
_EXAMPLES: Final = 3


class FlipCounts:
    """Counts pairs of different classes.

    Args:
        names: Name of each class.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._counts = Counter[tuple[int, int]]()
        self._examples: dict[tuple[int, int], list[str]] = {}

    def add_flips(
        self,
        first: npt.NDArray[np.integer[Any]],
        second: npt.NDArray[np.integer[Any]],
        image_of: Callable[[int], str],
        weights: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Count flips.

        Args:
            first: (n,) classes in the first run.
            second: (n,) classes in the second run.
            image_of: Location of the image of a flip, by its position.
            weights: (n,) what each counts; None for 1.
        """
        width = len(self._names)
        keys, starts, places = np.unique(
            first.astype(np.int64) * width + second, return_index=True, return_inverse=True
        )
        counts = np.bincount(places, weights, len(keys)).astype(np.int64)
        for key, start, count in zip(keys.tolist(), starts.tolist(), counts.tolist(), strict=True):
            pair = divmod(key, width)
            self._counts[pair] += count
            examples = self._examples.setdefault(pair, [])
            if len(examples) < _EXAMPLES and (image := image_of(start)) not in examples:
                examples.append(image)

    def rows(self) -> list[dict[str, Any]]:
        """The most frequent flips first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [
            {
                "first": self._names[first],
                "second": self._names[second],
                "count": count,
                "examples": self._examples[first, second],
            }
            for (first, second), count in ordered[:MOST_FLIPS]
        ]
