"""The length of the edges of masks, from their run-length encoding alone."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.schema import HEIGHT, WIDTH

_CONTINUES: Final = 32
"""Bit of a character of COCO's encoding: the number goes on. Characters begin at `_ZERO`."""
_ZERO: Final = 48


def edge_shares(masks: pa.Array, owners: npt.NDArray[np.integer[Any]], rows: pa.Table) -> npt.NDArray[np.float64]:
    """Edges of masks, as a share of the pixels of their images.

    Runs go down the columns of an image, so each run is an edge that a column crosses. They are counted without
    decoding: a run is a number, and each number has one character that does not continue it.

    Args:
        masks: Binary, COCO RLE counts.
        owners: (masks,), the row of the image of each mask.
        rows: Has `width` and `height`.

    Returns:
        (masks,), from 0 to 1.
    """
    if not len(masks):
        return np.zeros(0)
    offsets = np.frombuffer(masks.buffers()[1], np.int32)[masks.offset : masks.offset + len(masks) + 1]
    characters = np.frombuffer(masks.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    is_end = ((characters - _ZERO) & _CONTINUES) == 0
    ends = np.concatenate([[0], np.cumsum(is_end)])[offsets - offsets[0]]
    runs = np.diff(ends)
    pixels = rows[WIDTH].to_numpy().astype(np.float64) * rows[HEIGHT].to_numpy()
    shares: npt.NDArray[np.float64] = np.maximum(runs - 1, 0) / pixels[owners]
    return shares
