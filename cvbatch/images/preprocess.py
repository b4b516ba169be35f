"""Resize and crop images for a network, and map its boxes back to the original."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.letterbox import BLACK, Letterbox, longest_shorter_side, place_in_frame
from cvbatch.images.letterbox import Size as Size
from cvbatch.images.linear_resize import resize_linear
from cvbatch.images.tiles import Tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Preprocessing up to the last step that keeps uint8 RGB.

    Conversion to floats and normalisation belong to the network.
    """

    resize: int | tuple[int, int] | None = None
    """Length of the shorter side, or (height, width), in pixels; None keeps the size."""
    crop: tuple[int, int] | None = None
    """(height, width) of the centre crop after resizing; smaller images are padded with black."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "linear"] = "bilinear"
    """Pillow's filters, which average what they make smaller; `linear` does not, as OpenCV's and torch's do not."""
    letterbox: Letterbox | None = None
    """A frame that images are fitted into, in place of `resize` and `crop`."""
    crop_rounding: Literal["nearest", "down"] = "nearest"
    """How the left and top of a crop get whole pixels where an odd number is cut off: to the nearest even one, as
    torchvision does; or down, as Hugging Face's transformers do."""
    tiles: Tiles | None = None
    """How a picture is cut first; each tile then goes through the other steps like an image."""

    def __post_init__(self) -> None:
        """Refuse a view that contradicts itself.

        Raises:
            ValueError: If there is a letterbox, and `resize` or `crop`, too.
        """
        if self.letterbox is not None and (self.resize, self.crop) != (None, None):
            raise ValueError("letterbox: gives the size of the view: leave out resize and crop")


_MIN_DECODE_RATIO = 2
"""Decoding may scale an image down to at least this many times its resized size. A photo of 12 megapixels then differs
by 0.2 of 255 on average; with a ratio of 1, by 0.4."""
_RESAMPLING_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "linear": Image.Resampling.BILINEAR,
}
"""Filter of each interpolation; `linear` has it only where an image is too thin to be resized as a whole."""
_FILTER_SUPPORT = {"nearest": 0, "bilinear": 1, "bicubic": 2, "linear": 1}
"""Pixels that a filter reads on each side when it does not scale down."""
_MAX_RESIZED_PIXELS = 1 << 22
"""Most pixels after resizing: networks need 0.25 to 0.9 kB of memory per pixel. A shorter side of 384 allows an aspect
ratio of 28 : 1, one of 520 allows 15 : 1."""
_MAX_ASPECT_RATIO = 4
"""A model with a much larger shorter side gets its images up to this aspect ratio."""


def apply_view(view: View, image: Image.Image, original_size: Size | None = None) -> npt.NDArray[np.uint8]:
    """Resize and crop an image, bit for bit as torchvision's functional transforms do on a PIL image.

    If an image is so thin that resizing would make too many pixels, only the cropped region is resized; its pixels may
    differ by one rounding step.

    Args:
        view: Preprocessing of the network.
        image: An RGB image, oriented.
        original_size: (width, height) of the oriented original, if the image was scaled down during decoding.

    Returns:
        uint8, (height, width, 3), C-contiguous; read-only, because it shares memory with a `bytes` object.

    Raises:
        ImageError: `TooManyPixels`; see `check_resized_pixels`.
    """
    original_size = original_size or image.size
    check_resized_pixels(view, original_size)
    geometry = compute_crop_geometry(view, original_size)
    (left, top), (width, height) = geometry.offset, geometry.size
    if not can_resize_whole(view, original_size):
        image = _resize_cropped_region(view, image, geometry)
        left, top = min(left, 0), min(top, 0)
    elif image.size != geometry.resized_size:
        image = _resize_image(image, geometry.resized_size, view.interpolation)
    if view.letterbox is not None and view.letterbox.fill != BLACK:
        frame = Image.new("RGB", (width, height), view.letterbox.fill)
        frame.paste(image, (-left, -top))
        return np.asarray(frame)
    if view.crop is not None or view.letterbox is not None:
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image)


def check_resized_pixels(view: View, original_size: Size) -> None:
    """Refuse an image that is so thin that resizing its shorter side would make too many pixels.

    Args:
        view: Preprocessing of the network.
        original_size: (width, height) of the oriented original.

    Raises:
        ImageError: `TooManyPixels`.
    """
    width, height = compute_crop_geometry(view, original_size).resized_size
    letterbox = view.letterbox
    follows = letterbox is not None and letterbox.rounding == "least_change"
    if ((isinstance(view.resize, int) and view.crop is None) or follows) and width * height > _max_resized_pixels(view):
        raise ImageError(
            "TooManyPixels",
            f"{original_size[0]} x {original_size[1]} is so thin that a model that resizes the shorter side to "
            f"{min(width, height)} would get {width} x {height} = {width * height} pixels, more than "
            f"{_max_resized_pixels(view)}; cut such images into parts, or label them without this model",
        )


def can_resize_whole(view: View, original_size: Size) -> bool:
    """Whether resizing the whole image, before the crop, stays within the allowed number of pixels."""
    return view.resize is None or _count_pixels(_compute_resized_size(view, original_size)) <= _max_resized_pixels(view)


def _count_pixels(size: Size) -> int:
    return size[0] * size[1]


def _max_resized_pixels(view: View) -> int:
    """Return the most pixels that resizing may make; a fixed (height, width) of a view is always allowed."""
    if isinstance(view.resize, int):
        return max(_MAX_RESIZED_PIXELS, _MAX_ASPECT_RATIO * view.resize**2)
    return max(_MAX_RESIZED_PIXELS, _count_pixels(view.resize or (0, 0)))


def _resize_cropped_region(view: View, image: Image.Image, geometry: CropGeometry) -> Image.Image:
    """Resize only the region of an image that the crop keeps.

    Pillow stores the corners of a box in single precision, so the pixels around the region are cropped first.
    """
    spans, lengths = [], []
    for axis in (0, 1):
        first = max(0, geometry.offset[axis])
        end = min(geometry.resized_size[axis], geometry.offset[axis] + geometry.size[axis])
        scale = image.size[axis] / geometry.resized_size[axis]
        margin = _FILTER_SUPPORT[view.interpolation] * max(scale, 1) + 1
        low = max(0, math.floor(first * scale - margin))
        high = min(image.size[axis], math.ceil(end * scale + margin))
        spans.append((low, high, first * scale - low, min(end * scale, image.size[axis]) - low))
        lengths.append(end - first)
    (left, right, *columns_range), (top, bottom, *rows_range) = spans
    # Same order as Pillow for the whole image: bicubic values are clipped in between.
    columns_first = image.width < image.height > geometry.resized_size[1]
    image = image.crop((left, top, right, bottom))
    for is_column_pass in (columns_first, not columns_first):
        size = (image.width, lengths[1]) if is_column_pass else (lengths[0], image.height)
        column_box = (0, rows_range[0], image.width, rows_range[1])
        row_box = (columns_range[0], 0, columns_range[1], image.height)
        box = column_box if is_column_pass else row_box
        image = image.resize(size, _RESAMPLING_FILTERS[view.interpolation], box=box)
    return image


def _resize_image(image: Image.Image, size: Size, interpolation: str) -> Image.Image:
    if interpolation == "linear":
        return resize_linear(image, size)
    resample = _RESAMPLING_FILTERS[interpolation]
    # Pillow before 13 resizes the rows first, which makes too many pixels of a very high image.
    if size[0] * image.height > max(_MAX_RESIZED_PIXELS, _count_pixels(image.size), _count_pixels(size)):
        image = image.resize((image.width, size[1]), resample)
    return image.resize(size, resample)


GPU_INTERPOLATIONS: Final = ("bilinear", "bicubic")
"""Interpolations that are also implemented on the GPU; see `cvbatch.inference.torch.resize`."""


def can_resize_on_gpu(view: View) -> bool:
    """Whether a GPU can make the view; there the area outside of an image is black."""
    has_black_frame = view.letterbox is None or view.letterbox.fill == BLACK
    return view.interpolation in GPU_INTERPOLATIONS and has_black_frame and view.tiles is None


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Resized size and crop of an image, each as (horizontal, vertical) in pixels."""

    resized_size: Size
    """Size after resizing."""
    offset: tuple[int, int]
    """Left and top of the crop in the resized image; negative if it is padded."""
    size: Size
    """Size of the crop."""


def compute_crop_geometry(view: View, original_size: Size) -> CropGeometry:
    """Compute the resized size and the crop for an image of `original_size`."""
    if view.letterbox is not None:
        placed = place_in_frame(view.letterbox, original_size)
        return CropGeometry(placed.resized, (-placed.offset[0], -placed.offset[1]), placed.frame)
    resized = _compute_resized_size(view, original_size)
    if view.crop is None:
        return CropGeometry(resized, (0, 0), resized)
    return CropGeometry(resized, _compute_crop_offset(view, view.crop, resized), (view.crop[1], view.crop[0]))


def compute_min_decode_side(views: Iterable[View]) -> int | None:
    """Compute the shorter side in pixels that an image needs so that all views of it look nearly the same.

    Returns:
        Twice the longest side that any view resizes to, or of a letterbox the longest shorter side; None if a view does
        not resize, or cuts tiles.
    """
    sides = []
    for view in views:
        resize = longest_shorter_side(view.letterbox) if view.letterbox is not None else view.resize
        if resize is None or view.tiles is not None:
            return None
        sides.append(resize if isinstance(resize, int) else max(resize))
    return _MIN_DECODE_RATIO * max(sides, default=0) or None


def compute_output_size(view: View, original_size: Size) -> Size:
    """Compute the size of the array that `apply_view` returns.

    Args:
        view: Preprocessing of the network.
        original_size: (width, height) of the oriented original.

    Returns:
        (width, height) in pixels.
    """
    return compute_crop_geometry(view, original_size).size


def boxes_to_original(
    view: View, original_size: Size, boxes: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Map boxes from the pixels of a view to those of the oriented original.

    Args:
        view: View in which the boxes were detected.
        original_size: (width, height) of the oriented original.
        boxes: Float, (n, 4): x_min, y_min, x_max, y_max in pixels of the view.

    Returns:
        Boxes in pixels of the original, clipped to it; same shape and dtype.
    """
    geometry = compute_crop_geometry(view, original_size)
    scale = np.tile(np.divide(original_size, geometry.resized_size), 2)
    scaled = np.add(boxes, np.tile(geometry.offset, 2), dtype=np.float64) * scale
    clipped: npt.NDArray[np.floating[Any]] = np.clip(scaled, 0, np.tile(original_size, 2)).astype(boxes.dtype)
    return clipped


def _compute_resized_size(view: View, size: Size) -> Size:
    """Compute (width, height) after resizing; like torchvision, the longer side is truncated, not rounded."""
    if view.resize is None:
        return size
    if isinstance(view.resize, tuple):
        height, width = view.resize
        return width, height
    width, height = size
    if width <= height:
        return view.resize, int(view.resize * height / width)
    return int(view.resize * width / height), view.resize


def _compute_crop_offset(view: View, crop: tuple[int, int], size: Size) -> tuple[int, int]:
    """Compute (left, top) of the centre crop; negative if the image is padded, because Pillow crops black there."""
    height, width = crop
    return _center_crop_start(view, size[0], width), _center_crop_start(view, size[1], height)


def _center_crop_start(view: View, length: int, target: int) -> int:
    if length < target:
        return -((target - length) // 2)
    return (length - target) // 2 if view.crop_rounding == "down" else round((length - target) / 2.0)
