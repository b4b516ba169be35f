"""Masks as COCO run-length encoding, by pycocotools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

Mask = npt.NDArray[np.bool_]
"""(height, width), true inside."""


def encode_masks(masks: Sequence[Mask]) -> list[bytes]:
    """Encode masks.

    Args:
        masks: Bool arrays, (height, width); encoding is fastest in Fortran order, which is that of the format.

    Returns:
        The compressed counts of each mask, as `decode_mask` and pycocotools take them.
    """
    return [encode_mask(mask) for mask in masks]


def encode_mask(mask: Mask) -> bytes:
    """Encode one mask; see `encode_masks`."""
    counts: bytes = coco.encode(np.asfortranarray(mask).view(np.uint8))["counts"]
    return counts


def decode_mask(counts: bytes, height: int, width: int) -> Mask:
    """Decode one mask of the predictions.

    Args:
        counts: A value of a `_masks` column.
        height: Of the oriented original, in pixels.
        width: Of the oriented original, in pixels.

    Returns:
        Bool, (height, width).
    """
    mask: npt.NDArray[np.uint8] = coco.decode({"size": [height, width], "counts": counts})
    return mask.astype(np.bool_)
