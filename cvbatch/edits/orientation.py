"""Upright views of stored pixels, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
"""(height, width) or (height, width, channels), of any dtype."""


def upright_view(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright without a copy.

    Args:
        pixels: As stored in the file.
        orientation: 1 (upright) to 8, as in Exif 3.0, 4.6.5.

    Returns:
        A view of the same memory; its first two axes are height and width of the oriented original.
    """
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def stored_view(pixels: Pixels, orientation: int) -> Pixels:
    """Turn upright pixels as they are stored, without a copy: `upright_view` backwards."""
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
