"""Colours of a palette, which stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_ENTRIES = 256


def palette_colours(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Colours of a picture of mode P, (256, 3); entries that it does not have are black."""
    values = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:_ENTRIES]
    return np.pad(values, ((0, _ENTRIES - len(values)), (0, 0)))


def opaque_entries(image: Image.Image) -> npt.NDArray[np.intp]:
    """Entries of the palette that are not transparent; all if none is opaque."""
    count = len(image.getpalette("RGB") or []) // 3
    is_opaque = np.ones(max(1, count), np.bool_)
    transparency = image.info.get("transparency")
    if isinstance(transparency, bytes):
        alpha = np.frombuffer(transparency, np.uint8)[:count]
        is_opaque[: len(alpha)] = alpha == 255
    elif isinstance(transparency, int) and transparency < count:
        is_opaque[transparency] = False
    return np.flatnonzero(is_opaque) if is_opaque.any() else np.arange(len(is_opaque))


def nearest_entries(
    colours: npt.NDArray[Any], palette: npt.NDArray[np.uint8], entries: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The entry with the nearest colour, by squared distance in RGB.

    Args:
        colours: (rows, columns, 3)
        palette: (256, 3)
        entries: Those that may be used.

    Returns:
        (rows, columns)
    """
    distinct, positions = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = np.empty(len(distinct), np.intp)
    allowed = palette[entries].astype(np.int32)
    for start in range(0, len(distinct), 4096):
        part = distinct[start : start + 4096].astype(np.int32)
        nearest[start : start + 4096] = entries[((part[:, None] - allowed[None]) ** 2).sum(axis=2).argmin(axis=1)]
    return nearest[positions.reshape(colours.shape[:2])]
