"""Masks in COCO's run-length encoding. pycocotools encodes; its decoder is not used, because it warns under NumPy 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from cvbatch.images.preprocess import Size, View, compute_crop_geometry

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
    runs = rle_runs(counts)
    inside = np.zeros(len(runs), np.bool_)
    inside[1::2] = True
    pixels = np.repeat(inside, runs)
    if len(pixels) != height * width:
        raise ValueError(f"expected a mask of {height} × {width} pixels, got one of {len(pixels)}")
    return pixels.reshape((height, width), order="F")


def scaled_nearest(labels: npt.NDArray[Any], size: Size, view: View | None = None) -> npt.NDArray[Any]:
    """Scale a mask or a label map to the size of an image, by nearest neighbour.

    Args:
        labels: (height, width) of any size, over the whole view.
        size: (width, height) of the image.
        view: A view without a crop that the labels are of; by default one without a frame.

    Returns:
        (height, width) of the image, in Fortran order.
    """
    columns, rows = (_nearest_labels(labels.shape[1 - axis], size, axis, view) for axis in (0, 1))
    scaled: npt.NDArray[Any] = labels.T[columns[:, None], rows]
    return scaled.T


def _nearest_labels(count: int, size: Size, axis: int, view: View | None) -> npt.NDArray[np.intp]:
    """The label of each pixel along an axis; the products are exact, so only the division rounds."""
    centres = np.arange(size[axis]) + 0.5
    if view is None:
        return (centres * count // size[axis]).astype(np.intp)
    geometry = compute_crop_geometry(view, size)
    in_view = centres * geometry.resized_size[axis] - geometry.offset[axis] * size[axis]
    return (in_view * count // (size[axis] * geometry.size[axis])).astype(np.intp)


def rle_runs(counts: bytes) -> npt.NDArray[np.int64]:
    """Return the lengths of the runs of an encoded mask; the first run is outside of it.

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
