"""Models that need no computation, to measure everything else."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvbatch import View


class Constant:
    """Gives every image the same label."""

    task = "classification"
    view = View(resize=(8, 8))
    categories = ("image",)

    def predict(
        self, images: Sequence[npt.NDArray[np.uint8]], sizes: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float32]:
        """Scores (n, 1), all 1."""
        return np.ones((len(images), 1), np.float32)


class Sleeper(Constant):
    """Waits for each image without using a core.

    Args:
        seconds: Seconds per image.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def predict(
        self, images: Sequence[npt.NDArray[np.uint8]], sizes: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float32]:
        """Scores (n, 1), all 1, after the wait."""
        time.sleep(self._seconds * len(images))
        return super().predict(images, sizes)
