"""Views of another size than that of the published weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cvbatch.errors import JobError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View

_STRIDE: Final = 32
"""Frames of detectors are multiples of this: the cells of their coarsest level."""
_FIXED: Final = ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large")
"""Detectors whose anchors are made for one size."""


def sized_view(view: View, longer_side: int | None, model: str = "") -> View:
    """A view of another size.

    A crop keeps the margin around it. Networks that see whole images get them with this longer side.

    Args:
        view: Of the published weights.
        longer_side: Pixels of the longer side of what the network sees; None keeps the view.
        model: Name of the network.

    Raises:
        JobError: If the network has no such size.
    """
    if longer_side is None:
        return view
    if model in _FIXED:
        raise JobError(f"image_size: {model} sees images of one size only: leave it out, or choose another model")
    return _size_of(view)(view, longer_side)


def _size_of(view: View) -> Callable[[View, int], View]:
    if view.letterbox is not None and view.letterbox.size is not None:
        return _sized_frame
    return _sized_crop if view.crop is not None and isinstance(view.resize, int) else _sized_image


def _sized_crop(view: View, longer_side: int) -> View:
    assert view.crop is not None, "crops have a size"
    assert isinstance(view.resize, int), "crops are cut from images whose shorter side has a length"
    factor = longer_side / max(view.crop)
    height, width = (round(side * factor) for side in view.crop)
    return replace(view, resize=round(view.resize * factor), crop=(height, width))


def _sized_frame(view: View, longer_side: int) -> View:
    assert view.letterbox is not None, "frames have a size"
    if longer_side % _STRIDE:
        raise JobError(f"image_size: expected a multiple of {_STRIDE} for this network, got {longer_side}")
    return replace(view, letterbox=replace(view.letterbox, size=(longer_side, longer_side)))


def _sized_image(view: View, longer_side: int) -> View:
    whole = Letterbox(shorter=longer_side, longer=longer_side, rounding="down")
    return replace(view, resize=None, crop=None, letterbox=whole)
