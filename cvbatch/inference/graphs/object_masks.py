"""Masks of objects: small logits over the frame, scaled to the original inside of each box."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size, View, compute_crop_geometry
from cvbatch.tasks.masks import encode_mask

Array = npt.NDArray[Any]


def paste_masks(logits: Array, boxes: Array | None, view: View, frame: tuple[int, int], size: Size) -> list[bytes]:
    """Scale masks to the original and encode them; a pixel is inside where the interpolated logit is above 0.

    Args:
        logits: (n, height, width) over the whole frame.
        boxes: (n, 4) in pixels of the original, outside of which nothing belongs to a mask, as in YOLACT
            (arXiv:1904.02689); None for masks of the whole image.
        view: View of the model.
        frame: (height, width) of the image that the graph saw.
        size: (width, height) of the oriented original.
    """
    geometry = compute_crop_geometry(view, size)
    axes = [
        _interpolation(size[axis], geometry.resized_size[axis], geometry.offset[axis], frame[1 - axis], length)
        for axis, length in ((0, logits.shape[2]), (1, logits.shape[1]))
    ]
    (columns, rows), whole = axes, np.array([0, 0, *size], np.float32)
    masks = []
    for index, mask in enumerate(logits):
        box = whole if boxes is None else boxes[index]
        left, top, right, bottom = np.clip(np.ceil(box), 0, np.tile(size, 2)).astype(int)
        inside = np.zeros((size[1], size[0]), np.bool_, order="F")
        across = _lerp(mask.T, *(values[left:right] for values in columns))
        inside[top:bottom, left:right] = _lerp(across.T, *(values[top:bottom] for values in rows)) > 0
        masks.append(encode_mask(inside))
    return masks


def _interpolation(original: int, resized: int, offset: int, frame: int, length: int) -> tuple[Array, Array, Array]:
    """For each pixel of the original along an axis: the values below and above it, and the share of the upper one.

    The half-pixel rule of bilinear interpolation: the centre of a pixel stays where it is.
    """
    in_frame = (np.arange(original) + 0.5) * (resized / original) - offset
    position = np.clip(in_frame * (length / frame) - 0.5, 0, length - 1)
    lower = np.floor(position).astype(np.intp)
    return lower, np.minimum(lower + 1, length - 1), (position - lower).astype(np.float32)


def _lerp(values: Array, lower: Array, upper: Array, share: Array) -> Array:
    """Interpolate along the first axis."""
    low = values[lower].astype(np.float32)
    result: Array = low + share[:, None] * (values[upper] - low)
    return result
