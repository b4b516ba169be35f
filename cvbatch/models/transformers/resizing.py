"""How processors resize images, as views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View

_SIZES: Final = "height and width, or with shortest_edge"
_WHOLE_FROM: Final = 384
"""Shorter side from which ConvNeXt sees whole images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths in pixels under the names that processors have for them."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None

    def both_sides(self) -> tuple[int, int]:
        """(height, width).

        Raises:
            ValueError: They are not given.
        """
        if not self.height or not self.width:
            raise ValueError(f"expected size: with {_SIZES}, got {self}")
        return self.height, self.width


def parse_size(value: Any, *, square: bool, longest: int | None = None) -> Lengths:
    """Lengths of an image as a processor of any version writes them.

    Args:
        value: A number, (height, width), or a mapping.
        square: Whether a number means both sides.
        longest: Most pixels of the longer side, where a number means the shorter one.

    Raises:
        ValueError: It is none of these.
        TypeError: The mapping has another key.
    """
    if isinstance(value, Mapping):
        return Lengths(**{str(key): int(length) for key, length in value.items() if length is not None})
    if isinstance(value, int):
        return Lengths(height=value, width=value) if square else Lengths(shortest_edge=value, longest_edge=longest)
    if isinstance(value, list) and len(value) == 2:
        return Lengths(height=int(value[0]), width=int(value[1]))
    raise ValueError(f"expected size: with {_SIZES}, got {value!r}")


def resize_plainly(known: Mapping[str, Any], size: Lengths) -> View:
    """Most processors: to height and width, to a shorter side, or to a shorter side with a limit of the longer one."""
    if size.shortest_edge and size.longest_edge:
        letterbox = Letterbox(shorter=size.shortest_edge, longer=size.longest_edge, rounding="shorter_first")
        return View(letterbox=letterbox)
    if size.shortest_edge:
        return View(resize=size.shortest_edge)
    return View(resize=size.both_sides())


def resize_to_patches(known: Mapping[str, Any], size: Lengths) -> View:
    """YOLOS: whole patches."""
    view = resize_plainly(known, size)
    if view.letterbox is None:
        return view
    return replace(view, letterbox=replace(view.letterbox, rounding="shorter_first_16"))


def resize_to_larger_multiples(known: Mapping[str, Any], size: Lengths) -> View:
    """MaskFormer and Mask2Former: up to multiples of a number of pixels."""
    step = int(known["size_divisor"]) or 1
    view = resize_plainly(known, size)
    if view.letterbox is not None:
        return replace(view, letterbox=replace(view.letterbox, stride=step, rounding="shorter_first_up"))
    height, width = size.both_sides()
    return View(resize=(-(-height // step) * step, -(-width // step) * step))


def resize_to_multiples(known: Mapping[str, Any], size: Lengths) -> View:
    """DPT and Depth Anything: to multiples of a number of pixels, with or without the proportions of the image."""
    step = int(known["ensure_multiple_of"])
    height, width = size.both_sides()
    if known["keep_aspect_ratio"]:
        return View(letterbox=Letterbox(size=(height, width), stride=step, rounding="least_change"))
    return View(resize=(round(height / step) * step, round(width / step) * step))


def resize_in_square(known: Mapping[str, Any], size: Lengths) -> View:
    """OWLv2: at the top left of a black square; its own processor blurs with SciPy where Pillow averages."""
    return View(letterbox=Letterbox(size=size.both_sides()))


def resize_by_share(known: Mapping[str, Any], size: Lengths) -> View:
    """ConvNeXt: a crop of a share of the shorter side up to 383 pixels, from 384 on all of the image."""
    shorter = size.shortest_edge
    if not shorter:
        raise ValueError(f"expected size: with shortest_edge, got {size}")
    if shorter >= _WHOLE_FROM:
        return View(resize=(shorter, shorter))
    return View(resize=int(shorter / known["crop_pct"]), crop=(shorter, shorter))


def resize_larger(known: Mapping[str, Any], size: Lengths) -> View:
    """LeViT, PoolFormer: the shorter side is larger than the crop by a share."""
    shorter = size.shortest_edge
    if "crop_pct" in known and not shorter and size.height == size.width:
        shorter = size.height
    if not shorter:
        return resize_plainly(known, size)
    return View(resize=int(shorter / known["crop_pct"]) if "crop_pct" in known else int((256 / 224) * shorter))
