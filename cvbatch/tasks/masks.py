"""Masks in COCO's run-length encoding. pycocotools encodes; its decoder is not used, because it warns under NumPy 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from cvbatch.images.preprocess import Size

Mask = npt.NDArray[np.bool_]
"""(height, width), true inside."""


def encode_mask(mask: Mask) -> bytes:
    """Encode one mask.

    Args:
        mask: Bool, (height, width); fastest in Fortran order, which is the order of the format.

    Returns:
        The compressed counts, as `decode_mask` and pycocotools expect them.
    """
    counts: bytes = coco.encode(np.asfortranarray(mask).view(np.uint8))["counts"]
    return counts


def decode_mask(counts: bytes, height: int, width: int) -> Mask:
    """Decode a mask of the predictions.

    Args:
        counts: A value of a `_masks` column.
        height: Height of the oriented original, in pixels.
        width: Width of the oriented original, in pixels.

    Returns:
        Bool, (height, width), in Fortran order.

    Raises:
        ValueError: The mask does not have height × width pixels.
    """
    runs = _rle_runs(counts)
    inside = np.zeros(len(runs), np.bool_)
    inside[1::2] = True
    pixels = np.repeat(inside, runs)
    if len(pixels) != height * width:
        raise ValueError(f"expected a mask of {height} × {width} pixels, got one of {len(pixels)}")
    return pixels.reshape((height, width), order="F")


def scaled_nearest(labels: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Scale a mask or a label map to the size of an image, by nearest neighbour.

    Args:
        labels: (height, width), of any size.
        size: (width, height) of the image.

    Returns:
        (height, width) of the image, in Fortran order.
    """
    width, height = size
    rows = (np.arange(height) + 0.5) * labels.shape[0] // height
    columns = (np.arange(width) + 0.5) * labels.shape[1] // width
    scaled: npt.NDArray[Any] = labels.T[columns.astype(np.intp)[:, None], rows.astype(np.intp)]
    return scaled.T


def _rle_runs(counts: bytes) -> npt.NDArray[np.int64]:
    """Lengths of the runs; the first run is outside the mask.

    The format of `rleFrString` in the COCO API: each number is a group of characters with 5 bits each, lowest first.
    Bit 32 means that the group continues; bit 16 of its last character is the sign. From the fourth number on, each is
    the difference to the last but one.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero((characters & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    digit = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((characters & 31) << (5 * digit), starts) if len(starts) else ends
    runs = runs - ((characters[ends] & 16) > 0) * (1 << (5 * (digit[ends] + 1)))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
