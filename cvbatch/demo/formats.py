"""Writes one picture in each file format that archives contain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image, ImageDraw, features

_JPEG_QUALITY: Final = 90


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A file format with its options."""

    name: str
    """Pillow's name of the format, in lower case."""
    suffix: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of Pillow's writer."""
    change: Callable[[Image.Image], Image.Image] | None = None
    """Converts RGB to the pixels of the file."""
    orientation: int = 1
    """Exif orientation; the pixels are stored so that the picture shows upright."""


def save_as_format(image: Image.Image, file_format: FileFormat, path: Path) -> None:
    """Write a picture as a file.

    Args:
        image: RGB, upright.
        file_format: The file format.
        path: The file, in a folder that exists.
    """
    options = dict(file_format.options)
    if file_format.orientation != 1:
        image = image.transpose(_STORED_TRANSPOSES[file_format.orientation])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = file_format.orientation
        options["exif"] = exif
    pixels = file_format.change(image) if file_format.change else image
    if file_format.name in _MULTI_FRAME_FORMATS:
        options |= {"save_all": True, "append_images": [pixels.transpose(Image.Transpose.ROTATE_180)]}
    pixels.save(path, file_format.name, **options)


_STORED_TRANSPOSES: Final = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How pixels are transposed in a file, by its orientation (Exif 3.0, 4.6.5.1.6)."""

_MULTI_FRAME_FORMATS: Final = frozenset({"gif", "tiff"})
"""Formats that get a second frame or page, upside down."""


def _convert_to_grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _convert_to_grey16(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def _convert_to_palette(image: Image.Image) -> Image.Image:
    return image.quantize(256, Image.Quantize.FASTOCTREE)


def _convert_to_cmyk(image: Image.Image) -> Image.Image:
    return image.convert("CMYK")


def _round_corners(image: Image.Image) -> Image.Image:
    alpha = Image.new("L", image.size, 0)
    corners = (0, 0, image.width - 1, image.height - 1)
    ImageDraw.Draw(alpha).rounded_rectangle(corners, radius=min(image.size) // 6, fill=255)
    image = image.copy()
    image.putalpha(alpha)
    return image


def _jpeg_variant(suffix: str = "jpg", **options: Any) -> FileFormat:
    change, orientation = options.pop("change", None), options.pop("orientation", 1)
    return FileFormat("jpeg", suffix, {"quality": _JPEG_QUALITY, **options}, change, orientation)


_AVIF_OR_JPEG: Final = (
    FileFormat("avif", "avif", {"quality": 80, "speed": 8}) if features.check("avif") else _jpeg_variant("jpeg")
)

FORMATS: Final[tuple[FileFormat, ...]] = (
    _jpeg_variant(),
    _jpeg_variant(orientation=6),
    FileFormat("png", "png"),
    _jpeg_variant(progressive=True),
    FileFormat("webp", "webp", {"quality": _JPEG_QUALITY}),
    _jpeg_variant("JPG"),
    FileFormat("png", "png", change=_convert_to_palette),
    _jpeg_variant(orientation=8),
    FileFormat("gif", "gif", change=_convert_to_palette),
    _jpeg_variant("jpeg", change=_convert_to_grey),
    FileFormat("tiff", "tif", {"compression": "tiff_lzw"}),
    _jpeg_variant(orientation=3),
    FileFormat("png", "PNG", change=_round_corners),
    _jpeg_variant(change=_convert_to_cmyk),
    _AVIF_OR_JPEG,
    _jpeg_variant(orientation=5),
    FileFormat("png", "png", change=_convert_to_grey16),
    FileFormat("bmp", "bmp"),
    _jpeg_variant(subsampling="4:4:4"),
)
"""Used in turn. Their number and the number of scenes have no common factor, so each scene gets each format."""
