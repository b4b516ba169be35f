"""Suppression of overlapping boxes, by torchvision, for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms


def suppress_overlaps(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], label_ids: npt.NDArray[Any], overlap: float
) -> npt.NDArray[np.int64]:
    """Drop the weaker of two boxes of one class that overlap.

    Args:
        boxes: (n, 4): x_min, y_min, x_max, y_max.
        scores: (n,)
        label_ids: (n,)
        overlap: Intersection over union from which boxes overlap too much.

    Returns:
        Positions of the other boxes, best first.
    """
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in (boxes, scores, label_ids))
    kept: npt.NDArray[np.int64] = batched_nms(*tensors, overlap).numpy()
    return kept
