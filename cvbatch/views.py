"""How an image is resized and cropped for a network, in pixels and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A preprocessing up to the last step that keeps uint8 RGB.

    Scaling to floats and normalisation belong to the network.
    """

    resize: int | tuple[int, int] | None = None
    """Length of the shorter side, or (height, width); None leaves the size."""
    crop: tuple[int, int] | None = None
    """(height, width) of the centre crop after resizing; smaller images are padded with black."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"


_SPARE = 2
"""A photo of 12 megapixels, scaled while decoding to at least so many times the size that it is resized to, differs by
0.2 of 255 in the mean; at once to that size, by 0.4."""
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def apply(view: View, image: Image.Image, original_size: Size | None = None) -> npt.NDArray[np.uint8]:
    """Resize and crop an image, bit for bit as torchvision's functional transforms do on a PIL image.

    Args:
        view: What the network wants to see.
        image: An RGB image, oriented.
        original_size: (width, height) of the oriented original, if the image was scaled down while it was decoded.

    Returns:
        uint8, (height, width, 3), C-contiguous; read-only, because it shares its memory with a `bytes`.
    """
    place = placed(view, original_size or image.size)
    if image.size != place.resized:
        image = image.resize(place.resized, _RESAMPLING[view.interpolation])
    if view.crop is not None:
        (left, top), (width, height) = place.offset, place.size
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image)


SMOOTH: Final = ("bilinear", "bicubic")
"""Interpolations that can be done on a GPU, too; see `cvbatch.models.resampling`."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a view of an image lies, each as (horizontal, vertical)."""

    resized: Size
    """What the image is resized to."""
    offset: tuple[int, int]
    """Of the crop in that; negative where it is padded with black."""
    size: Size
    """Of the crop."""


def placed(view: View, original_size: Size) -> Placed:
    """Where the view of an image of some size lies."""
    resized = _resized(view, original_size)
    if view.crop is None:
        return Placed(resized, (0, 0), resized)
    return Placed(resized, _crop_offset(view.crop, resized), (view.crop[1], view.crop[0]))


def enough(views: Iterable[View]) -> int | None:
    """Shorter side in pixels from which on some views look nearly the same however large an image is.

    Returns:
        Twice the longest side that any of them resizes to; None if one wants images as they are.
    """
    sides = []
    for view in views:
        if view.resize is None:
            return None
        sides.append(view.resize if isinstance(view.resize, int) else max(view.resize))
    return _SPARE * max(sides, default=0) or None


def size_of(view: View, original_size: Size) -> Size:
    """Size of what `apply` returns.

    Args:
        view: What the network wants to see.
        original_size: (width, height) of the oriented original.

    Returns:
        (width, height) in pixels.
    """
    return placed(view, original_size).size


def to_original(view: View, original_size: Size, boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Bring boxes from the pixels of a view back to those of the oriented original.

    Args:
        view: The view that the boxes were found in.
        original_size: (width, height) of the oriented original.
        boxes: Float, (n, 4): x_min, y_min, x_max, y_max in pixels of the view.

    Returns:
        The same in pixels of the original, clipped to it; same shape and dtype.
    """
    place = placed(view, original_size)
    scale = np.tile(np.divide(original_size, place.resized), 2)
    moved = np.add(boxes, np.tile(place.offset, 2), dtype=np.float64) * scale
    back: npt.NDArray[np.floating[Any]] = np.clip(moved, 0, np.tile(original_size, 2)).astype(boxes.dtype)
    return back


def _resized(view: View, size: Size) -> Size:
    """(width, height) after resizing; torchvision cuts the longer side to whole pixels, it does not round."""
    if view.resize is None:
        return size
    if isinstance(view.resize, tuple):
        height, width = view.resize
        return width, height
    width, height = size
    if width <= height:
        return view.resize, int(view.resize * height / width)
    return int(view.resize * width / height), view.resize


def _crop_offset(crop: tuple[int, int], size: Size) -> tuple[int, int]:
    """(left, top) of the centre crop; negative where an image is padded, and Pillow crops black there."""
    height, width = crop
    return _centre(size[0], width), _centre(size[1], height)


def _centre(length: int, target: int) -> int:
    if length < target:
        return -((target - length) // 2)
    return round((length - target) / 2.0)
