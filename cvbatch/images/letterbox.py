"""Fit whole images into a frame with their proportions kept, as detectors want them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Size = tuple[int, int]
"""(width, height) in pixels."""
BLACK = (0, 0, 0)
_PATCH: Final = 16
"""Sides of the patches of YOLOS, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """How an image is scaled, and the frame that it is put into.

    Either `size` is given, or `shorter` and `longer`. With `stride`, images of other proportions get other frames, and
    a batch has images of equal frames.
    """

    size: tuple[int, int] | None = None
    """(height, width) of the frame, which an image fills as far as its proportions allow."""
    shorter: int | None = None
    """Length of the shorter side of an image, unless the other one would exceed `longer`."""
    longer: int | None = None
    """Most pixels of the longer side of an image."""
    centred: bool = False
    """Whether the image lies in the middle; else at the top left."""
    fill: tuple[int, int, int] = BLACK
    """RGB of the rest of the frame, 0 to 255."""
    enlarge: bool = True
    """Whether small images are enlarged."""
    stride: int | None = None
    """The frame is only as large as the image needs, rounded up to multiples of this; None takes all of `size`, or the
    image without a frame."""
    rounding: Literal["nearest", "down", "shorter_first", "shorter_first_16", "shorter_first_up", "least_change"] = (
        "nearest"
    )
    """How sides get whole pixels: both to the nearest, half to even, as Ultralytics does; both down, as torchvision's
    detectors do; or the shorter one to the nearest and the longer one down, as Hugging Face's transformers do for the
    DETR family; `shorter_first_16` then takes both down to multiples of 16, as for YOLOS, and `shorter_first_up` up to
    multiples of `stride`, as for MaskFormer, so that proportions change a little; or, as for DPT and Depth Anything,
    the side that changes less gets its length in `size` and the other one follows, both to the nearest multiple of
    `stride`."""

    def __post_init__(self) -> None:
        """Refuse a frame that contradicts itself.

        Raises:
            ValueError: There are both `size` and `shorter` with `longer`, or neither; a length is not positive; `size`
                is no multiple of the stride.
        """
        bounds = [bound for bound in (self.shorter, self.longer) if bound is not None]
        if len(bounds) != (2 if self.size is None else 0):
            raise ValueError("letterbox: expected either size, or shorter and longer")
        if min(*(self.size or bounds), 1 if self.stride is None else self.stride) < 1:
            raise ValueError(f"letterbox: expected lengths of at least 1 pixel, got {self}")
        if self.size is not None and self.rounding.startswith("shorter_first"):
            raise ValueError(f"letterbox: {self.rounding} belongs to shorter and longer: give them in place of size")
        if self.rounding == "least_change" and None in (self.size, self.stride):
            raise ValueError("letterbox: least_change needs size and stride")
        if self.size is not None and any(side % (self.stride or 1) for side in self.size):
            raise ValueError(f"letterbox: expected a size in multiples of the stride {self.stride}, got {self.size}")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in its frame, each as (horizontal, vertical) in pixels."""

    resized: Size
    """Size of the image after resizing; at least one pixel each."""
    offset: tuple[int, int]
    """Left and top of the image in the frame."""
    frame: Size


def place_in_frame(letterbox: Letterbox, size: Size) -> Placement:
    """Compute where an image lies in its frame.

    Args:
        letterbox: The frame.
        size: (width, height) of the image.
    """
    width, height = _RESIZED_SIZES[letterbox.rounding](letterbox, size)
    resized = (max(1, width), max(1, height))
    if letterbox.size is not None and letterbox.stride is None:
        frame = (letterbox.size[1], letterbox.size[0])
    else:
        frame = _round_up(letterbox, resized)
    if not letterbox.centred:
        return Placement(resized, (0, 0), frame)
    return Placement(resized, ((frame[0] - resized[0]) // 2, (frame[1] - resized[1]) // 2), frame)


def longest_shorter_side(letterbox: Letterbox) -> int:
    """The most pixels that the shorter side of a resized image can have."""
    return min(_bounds(letterbox, (1, 1)))


def largest_frame(letterbox: Letterbox) -> Size:
    """(width, height) of the frame with the most pixels, of an image that is not higher than wide."""
    return _round_up(letterbox, _bounds(letterbox, (1, 1)))


def _round_up(letterbox: Letterbox, size: Size) -> Size:
    step = letterbox.stride or 1
    return -(-size[0] // step) * step, -(-size[1] // step) * step


def _bounds(letterbox: Letterbox, size: Size) -> Size:
    """The most pixels of (width, height) of an image of this size."""
    if letterbox.size is not None:
        return letterbox.size[1], letterbox.size[0]
    shorter, longer = letterbox.shorter or 0, letterbox.longer or 0
    return (shorter, longer) if size[0] < size[1] else (longer, shorter)


def _scale(letterbox: Letterbox, size: Size) -> float:
    bounds = _bounds(letterbox, size)
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    return scale if letterbox.enlarge else min(scale, 1.0)


def _round_to_nearest(letterbox: Letterbox, size: Size) -> Size:
    scale = _scale(letterbox, size)
    return round(size[0] * scale), round(size[1] * scale)


def _round_down(letterbox: Letterbox, size: Size) -> Size:
    scale = _scale(letterbox, size)
    return int(size[0] * scale), int(size[1] * scale)


def _round_shorter_first(letterbox: Letterbox, size: Size) -> Size:
    """`get_size_with_aspect_ratio` of transformers, step by step, because its order decides what is rounded how."""
    shorter, longer, (low, high) = letterbox.shorter or 0, letterbox.longer or 0, sorted(size)
    exact: float = shorter
    if high / low * shorter > longer:
        exact = longer * low / high
        shorter = round(exact)
    if low == shorter or (low < shorter and not letterbox.enlarge):
        return size
    if size[0] < size[1]:
        return shorter, int(exact * size[1] / size[0])
    return int(exact * size[0] / size[1]), shorter


def _round_to_patches(letterbox: Letterbox, size: Size) -> Size:
    width, height = _round_shorter_first(letterbox, size)
    return max(_PATCH, width - width % _PATCH), max(_PATCH, height - height % _PATCH)


def _round_up_shorter_first(letterbox: Letterbox, size: Size) -> Size:
    return _round_up(letterbox, _round_shorter_first(letterbox, size))


def _round_least_change(letterbox: Letterbox, size: Size) -> Size:
    """`get_resize_output_image_size` of DPT's processor in transformers, with proportions kept."""
    bounds, step = _bounds(letterbox, size), letterbox.stride or 1
    scales = [bound / side for bound, side in zip(bounds, size, strict=True)]
    scale = scales[0] if abs(1 - scales[0]) < abs(1 - scales[1]) else scales[1]
    width, height = (max(step, round(scale * side / step) * step) for side in size)
    return width, height


_RESIZED_SIZES: Final[Mapping[str, Callable[[Letterbox, Size], Size]]] = {
    "nearest": _round_to_nearest,
    "down": _round_down,
    "shorter_first": _round_shorter_first,
    "shorter_first_16": _round_to_patches,
    "shorter_first_up": _round_up_shorter_first,
    "least_change": _round_least_change,
}
