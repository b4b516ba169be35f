"""How one picture becomes a file of each kind that archives hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image, ImageDraw, features

_QUALITY: Final = 90


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    name: str
    """As Pillow calls it, in lower case."""
    suffix: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of Pillow's writer."""
    change: Callable[[Image.Image], Image.Image] | None = None
    """From RGB to the pixels of the file."""
    orientation: int = 1
    """Exif orientation; the picture is turned so that it shows upright."""


def save(image: Image.Image, form: Format, path: Path) -> None:
    """Write a picture as a file.

    Args:
        image: RGB, upright.
        form: The kind of file.
        path: In a folder that exists.
    """
    options = dict(form.options)
    if form.orientation != 1:
        image = image.transpose(_STORED[form.orientation])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = form.orientation
        options["exif"] = exif
    pixels = form.change(image) if form.change else image
    if form.name in _MULTIPLE:
        options |= {"save_all": True, "append_images": [pixels.transpose(Image.Transpose.ROTATE_180)]}
    pixels.save(path, form.name, **options)


_STORED: Final = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How pixels lie in a file whose orientation turns them upright (Exif 3.0, 4.6.5.1.6)."""

_MULTIPLE: Final = frozenset({"gif", "tiff"})
"""Get a second frame or page, upside down."""


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _grey16(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def _palette(image: Image.Image) -> Image.Image:
    return image.quantize(256, Image.Quantize.FASTOCTREE)


def _cmyk(image: Image.Image) -> Image.Image:
    return image.convert("CMYK")


def _round_corners(image: Image.Image) -> Image.Image:
    alpha = Image.new("L", image.size, 0)
    corners = (0, 0, image.width - 1, image.height - 1)
    ImageDraw.Draw(alpha).rounded_rectangle(corners, radius=min(image.size) // 6, fill=255)
    image = image.copy()
    image.putalpha(alpha)
    return image


def _jpeg(suffix: str = "jpg", **options: Any) -> Format:
    change, orientation = options.pop("change", None), options.pop("orientation", 1)
    return Format("jpeg", suffix, {"quality": _QUALITY, **options}, change, orientation)


_MODERN: Final = Format("avif", "avif", {"quality": 80, "speed": 8}) if features.check("avif") else _jpeg("jpeg")

FORMATS: Final[tuple[Format, ...]] = (
    _jpeg(),
    _jpeg(orientation=6),
    Format("png", "png"),
    _jpeg(progressive=True),
    Format("webp", "webp", {"quality": _QUALITY}),
    _jpeg("JPG"),
    Format("png", "png", change=_palette),
    _jpeg(orientation=8),
    Format("gif", "gif", change=_palette),
    _jpeg("jpeg", change=_grey),
    Format("tiff", "tif", {"compression": "tiff_lzw"}),
    _jpeg(orientation=3),
    Format("png", "PNG", change=_round_corners),
    _jpeg(change=_cmyk),
    _MODERN,
    _jpeg(orientation=5),
    Format("png", "png", change=_grey16),
    Format("bmp", "bmp"),
    _jpeg(subsampling="4:4:4"),
)
"""Taken in turn; their number and that of the scenes have no common factor, so that each meets each."""
