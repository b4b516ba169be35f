"""NanoDet's head: for each cell of some strides scores, and distances to four sides as bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_STRIDES: Final = (8, 16, 32, 64)
_PLUS_STRIDE: Final = 64
_SIDES: Final = 4

Array = npt.NDArray[Any]


def read_levels(arrays: Mapping[str, Array], classes: int, frame: tuple[int, int]) -> tuple[Array, Array]:
    """Read boxes and scores.

    A distance is the expectation over the bins times the stride (Generalized Focal Loss, arXiv:2006.04388). The centre
    of a cell is (index + 0.5) × stride in NanoDet, and index × stride in NanoDet-Plus, which has a fourth stride.

    Args:
        arrays: `scores_N` and `distances_N` for each stride, finest first, or both side by side in `scores_0`.
        classes: Number of classes.
        frame: (height, width) of the image that the graph saw.

    Returns:
        x_min, y_min, x_max, y_max in pixels of the frame, (cells, 4); and scores, (cells, classes).
    """
    if "distances_0" in arrays:
        levels = range(sum(role.startswith("scores_") for role in arrays))
        scores = np.concatenate([arrays[f"scores_{level}"].reshape(-1, classes) for level in levels])
        last = arrays["distances_0"].shape[-1]
        distances = np.concatenate([arrays[f"distances_{level}"].reshape(-1, last) for level in levels])
    else:
        scores, distances = np.split(arrays["scores_0"], [classes], axis=1)
    columns, rows, strides = _cells_of_frame(frame, len(scores))
    shift = 0.0 if strides[-1] == _PLUS_STRIDE else 0.5
    bins = distances.reshape(len(distances), _SIDES, -1).astype(np.float32)
    powers = np.exp(bins - bins.max(axis=2, keepdims=True))
    expected = (powers * np.arange(bins.shape[2], dtype=np.float32)).sum(axis=2) / powers.sum(axis=2)
    sides = expected * strides[:, None]
    centres = (np.stack([columns, rows], axis=1) + shift) * strides[:, None]
    return np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1), scores


def _cells_of_frame(frame: tuple[int, int], count: int) -> tuple[Array, Array, Array]:
    """Column, row and stride of each cell, as many strides as give that many cells."""
    parts: list[Array] = []
    for stride in _STRIDES:
        height, width = -(-frame[0] // stride), -(-frame[1] // stride)
        rows, columns = np.divmod(np.arange(height * width), width)
        parts.append(np.stack([columns, rows, np.full(len(rows), stride)]).astype(np.float32))
        if sum(part.shape[1] for part in parts) == count:
            break
    columns, rows, strides = np.concatenate(parts, axis=1)
    return columns, rows, strides
