"""How an image is resized and cropped for a network, in pixels and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError

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


_MIN_DECODE_RATIO = 2
"""A photo of 12 megapixels, scaled while decoding to at least so many times the size that it is resized to, differs by
0.2 of 255 in the mean; at once to that size, by 0.4."""
_RESAMPLING_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_FILTER_SUPPORT = {"nearest": 0, "bilinear": 1, "bicubic": 2}
"""Pixels that a filter takes in on each side, at the size of the original or larger."""
_MAX_RESIZED_PIXELS = 1 << 22
"""Pixels that may come out of resizing: networks need 0.25 to 0.9 kB of memory for each. A shorter side of 384 allows
28 : 1, one of 520 15 : 1."""
_MAX_ASPECT_RATIO = 4
"""A model that asks for much larger images gets them, up to so many times as long as wide."""


def apply_view(view: View, image: Image.Image, original_size: Size | None = None) -> npt.NDArray[np.uint8]:
    """Resize and crop an image, bit for bit as torchvision's functional transforms do on a PIL image.

    Of images so thin that resizing would make too many pixels, only what the crop keeps is resized: that may differ
    by single steps of rounding.

    Args:
        view: What the network wants to see.
        image: An RGB image, oriented.
        original_size: (width, height) of the oriented original, if the image was scaled down while it was decoded.

    Returns:
        uint8, (height, width, 3), C-contiguous; read-only, because it shares its memory with a `bytes`.

    Raises:
        ImageError: `TooManyPixels`, see `check_resized_pixels`.
    """
    original_size = original_size or image.size
    check_resized_pixels(view, original_size)
    place = compute_crop_geometry(view, original_size)
    (left, top), (width, height) = place.offset, place.size
    if not can_resize_whole(view, original_size):
        image = _resize_cropped_region(view, image, place)
        left, top = min(left, 0), min(top, 0)
    elif image.size != place.resized_size:
        image = _resize_image(image, place.resized_size, _RESAMPLING_FILTERS[view.interpolation])
    if view.crop is not None:
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image)


def check_resized_pixels(view: View, original_size: Size) -> None:
    """Refuse images that are so thin that resizing their shorter side would make too many pixels.

    Args:
        view: What the network wants to see.
        original_size: (width, height) of the oriented original.

    Raises:
        ImageError: `TooManyPixels`.
    """
    width, height = _compute_resized_size(view, original_size)
    if isinstance(view.resize, int) and view.crop is None and width * height > _max_resized_pixels(view):
        raise ImageError(
            "TooManyPixels",
            f"{original_size[0]} x {original_size[1]} is so thin that a model which wants the shorter side at "
            f"{view.resize} would get {width} x {height} = {width * height} pixels, more than "
            f"{_max_resized_pixels(view)}; cut such images into parts, or label them without this model",
        )


def can_resize_whole(view: View, original_size: Size) -> bool:
    """Whether resizing makes no more pixels of an image than are allowed, even without regard to the crop."""
    return view.resize is None or _count_pixels(_compute_resized_size(view, original_size)) <= _max_resized_pixels(view)


def _count_pixels(size: Size) -> int:
    return size[0] * size[1]


def _max_resized_pixels(view: View) -> int:
    """Pixels that resizing may make: what a model asks for by both sides is never too much."""
    if isinstance(view.resize, int):
        return max(_MAX_RESIZED_PIXELS, _MAX_ASPECT_RATIO * view.resize**2)
    return max(_MAX_RESIZED_PIXELS, _count_pixels(view.resize or (0, 0)))


def _resize_cropped_region(view: View, image: Image.Image, geometry: CropGeometry) -> Image.Image:
    """What a crop keeps of a resized image, without resizing the rest.

    Pillow keeps the corners of a box in single precision, so the pixels around it are cut out first.
    """
    boxes, lengths = [], []
    for axis in (0, 1):
        first = max(0, geometry.offset[axis])
        end = min(geometry.resized_size[axis], geometry.offset[axis] + geometry.size[axis])
        scale = image.size[axis] / geometry.resized_size[axis]
        reach = _FILTER_SUPPORT[view.interpolation] * max(scale, 1) + 1
        low = max(0, math.floor(first * scale - reach))
        high = min(image.size[axis], math.ceil(end * scale + reach))
        boxes.append((low, high, first * scale - low, min(end * scale, image.size[axis]) - low))
        lengths.append(end - first)
    (left, right, *across), (top, bottom, *down) = boxes
    # in the order that Pillow takes with the whole image: bicubic values are cut off in between
    columns_first = image.width < image.height > geometry.resized_size[1]
    image = image.crop((left, top, right, bottom))
    for columns in (columns_first, not columns_first):
        size = (image.width, lengths[1]) if columns else (lengths[0], image.height)
        box = (0, down[0], image.width, down[1]) if columns else (across[0], 0, across[1], image.height)
        image = image.resize(size, _RESAMPLING_FILTERS[view.interpolation], box=box)
    return image


def _resize_image(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    # before its version 13 Pillow does the rows first, which makes too much of an image that is very high
    if size[0] * image.height > max(_MAX_RESIZED_PIXELS, _count_pixels(image.size), _count_pixels(size)):
        image = image.resize((image.width, size[1]), resample)
    return image.resize(size, resample)


GPU_INTERPOLATIONS: Final = ("bilinear", "bicubic")
"""Interpolations that can be done on a GPU, too; see `cvbatch.inference.torch.resize`."""


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Where a view of an image lies, each as (horizontal, vertical)."""

    resized_size: Size
    """What the image is resized to."""
    offset: tuple[int, int]
    """Of the crop in that; negative where it is padded with black."""
    size: Size
    """Of the crop."""


def compute_crop_geometry(view: View, original_size: Size) -> CropGeometry:
    """Where the view of an image of some size lies."""
    resized = _compute_resized_size(view, original_size)
    if view.crop is None:
        return CropGeometry(resized, (0, 0), resized)
    return CropGeometry(resized, _compute_crop_offset(view.crop, resized), (view.crop[1], view.crop[0]))


def compute_min_decode_side(views: Iterable[View]) -> int | None:
    """Shorter side in pixels from which on some views look nearly the same however large an image is.

    Returns:
        Twice the longest side that any of them resizes to; None if one wants images as they are.
    """
    sides = []
    for view in views:
        if view.resize is None:
            return None
        sides.append(view.resize if isinstance(view.resize, int) else max(view.resize))
    return _MIN_DECODE_RATIO * max(sides, default=0) or None


def compute_output_size(view: View, original_size: Size) -> Size:
    """Size of what `apply_view` returns.

    Args:
        view: What the network wants to see.
        original_size: (width, height) of the oriented original.

    Returns:
        (width, height) in pixels.
    """
    return compute_crop_geometry(view, original_size).size


def boxes_to_original(
    view: View, original_size: Size, boxes: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Bring boxes from the pixels of a view back to those of the oriented original.

    Args:
        view: The view that the boxes were found in.
        original_size: (width, height) of the oriented original.
        boxes: Float, (n, 4): x_min, y_min, x_max, y_max in pixels of the view.

    Returns:
        The same in pixels of the original, clipped to it; same shape and dtype.
    """
    place = compute_crop_geometry(view, original_size)
    scale = np.tile(np.divide(original_size, place.resized_size), 2)
    moved = np.add(boxes, np.tile(place.offset, 2), dtype=np.float64) * scale
    back: npt.NDArray[np.floating[Any]] = np.clip(moved, 0, np.tile(original_size, 2)).astype(boxes.dtype)
    return back


def _compute_resized_size(view: View, size: Size) -> Size:
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


def _compute_crop_offset(crop: tuple[int, int], size: Size) -> tuple[int, int]:
    """(left, top) of the centre crop; negative where an image is padded, and Pillow crops black there."""
    height, width = crop
    return _center_crop_start(size[0], width), _center_crop_start(size[1], height)


def _center_crop_start(length: int, target: int) -> int:
    if length < target:
        return -((target - length) // 2)
    return round((length - target) / 2.0)
