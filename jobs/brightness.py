"""Your own model, without torch: is a photo dark, medium or bright?

Run it with `cvbatch run jobs/own_model.yaml`. Its protocol is documented in `cvbatch/inference/python/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvbatch.config.job import Task
from cvbatch.images.preprocess import View
from cvbatch.inference.python.protocol import Image, Size

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""


class Brightness:
    """Scores three classes by the mean brightness of a small view.

    Args:
        dark: Brightness of a typical dark photo, 0 to 1.
        bright: Brightness of a typical bright photo, 0 to 1.
    """

    task: Task = "classification"
    view = View(resize=(32, 32))
    categories: Sequence[str | None] = ("dark", "medium", "bright")
    label_map = "brightness 1"
    licence = "Apache-2.0"

    def __init__(self, dark: float = 0.25, bright: float = 0.75) -> None:
        if not 0 <= dark < bright <= 1:
            raise ValueError(f"expected 0 ≤ dark < bright ≤ 1, got {dark} and {bright}")
        self._typical = np.array([dark, (dark + bright) / 2, bright], np.float32)

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> npt.NDArray[np.float32]:
        """Float32 scores, (images, 3), that sum to 1; higher for a class with a more similar brightness."""
        brightness = np.stack(images).mean(axis=(1, 2), dtype=np.float32) @ _LUMA / 255
        closeness = np.exp(-20 * np.abs(brightness[:, None] - self._typical))
        scores: npt.NDArray[np.float32] = closeness / closeness.sum(axis=1, keepdims=True)
        return scores
