"""Bilinear interpolation without antialiasing, as OpenCV's `INTER_LINEAR` and torch's `interpolate` have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def resize_linear(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image so that each pixel comes from the four that are nearest to its centre.

    Args:
        image: RGB.
        size: (width, height) in pixels.

    Returns:
        The resized image. Rounding differs from OpenCV's, which calculates with 11 bits, by one step.
    """
    if size[0] >= image.width and size[1] >= image.height:
        return image.resize(size, Image.Resampling.BILINEAR)  # the same where nothing is made smaller, and faster
    pixels = np.asarray(image)
    left, right, across = _nearest_two(image.width, size[0])
    upper, lower, down = _nearest_two(image.height, size[1])
    above, below = (_blend(rows[:, left], rows[:, right], across[:, None]) for rows in (pixels[upper], pixels[lower]))
    return Image.fromarray((_blend(above, below, down[:, None, None]) + 0.5).astype(np.uint8))


def _nearest_two(
    length: int, target: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each target pixel along an axis: the pixels before and behind its centre, and the share of the second."""
    position = np.clip((np.arange(target) + 0.5) * (length / target) - 0.5, 0, length - 1)
    first = np.floor(position).astype(np.intp)
    return first, np.minimum(first + 1, length - 1), (position - first).astype(np.float32)


def _blend(
    first: npt.NDArray[Any], second: npt.NDArray[Any], share: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    blended: npt.NDArray[np.float32] = first.astype(np.float32)
    blended += (second - blended) * share
    return blended
