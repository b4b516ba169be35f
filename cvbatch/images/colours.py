"""Convert loaded images of any mode to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colour_profiles import convert_to_srgb


def convert_to_rgb(image: Image.Image, profile: object = None) -> Image.Image:
    """Convert a loaded image of any mode to 8-bit RGB; see `_RGB_CONVERTERS`.

    Args:
        image: `image.info` has the transparency that the file declares.
        profile: ICC profile to convert the colours to sRGB with; None leaves the colours unchanged.

    Raises:
        ImageError: `UnsupportedImage`, if there is no agreed way to read the numbers as colours.
    """
    if image.mode in _GREY_16_MODES:
        image = _convert_in_bands(image, "L", _grey16_to_grey8)
    if isinstance(profile, bytes) and profile:
        image = convert_to_srgb(image, profile)
    convert = _RGB_CONVERTERS.get(image.mode, _refuse_mode)
    if image.has_transparency_data and convert in (_return_unchanged, _convert_by_pillow):
        convert = _blend_over_white
    return convert(image)


def _return_unchanged(image: Image.Image) -> Image.Image:
    return image


def _convert_by_pillow(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _blend_over_white(image: Image.Image) -> Image.Image:
    return _convert_in_bands(image, "RGB", _blend_band_over_white)


def _blend_band_over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _grey16_to_grey8(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.uint16)
    # Round to nearest without leaving 16 bits.
    quotient, remainder = np.divmod(grey, np.uint16(257))
    grey8 = (quotient + (remainder > 128)).astype(np.uint8)
    if "transparency" in image.info:
        grey8[grey == image.info["transparency"]] = 255
    return Image.fromarray(grey8)


def _convert_in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a large image in bands of rows, so that only the result is large in memory."""
    band_rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= band_rows:
        return convert(image)
    result = Image.new(mode, image.size)
    for top in range(0, image.height, band_rows):
        box = (0, top, image.width, min(top + band_rows, image.height))
        result.paste(convert(image.crop(box)), box)
    return result


def _refuse_mode(image: Image.Image) -> Image.Image:
    name = {"F": "floating-point numbers", "I": "32-bit integers"}.get(image.mode, f"samples of kind {image.mode}")
    reason = "the file does not say which value is black and which is white"
    raise ImageError("UnsupportedImage", f"cannot read an image of {name}: {reason}; save it with 8 or 16 bits")


_GREY_16_MODES: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_BAND_PIXELS: Final = 1 << 20
_RGB_CONVERTERS: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "RGB": _return_unchanged,
    "L": _convert_by_pillow,
    "1": _convert_by_pillow,
    "P": _convert_by_pillow,
    "RGBX": _convert_by_pillow,
    "CMYK": _convert_by_pillow,
    "YCbCr": _convert_by_pillow,
    "LAB": _convert_by_pillow,
    "HSV": _convert_by_pillow,
    "LA": _blend_over_white,
    "PA": _blend_over_white,
    "RGBA": _blend_over_white,
    "RGBa": _blend_over_white,
}
"""How each of Pillow's modes becomes RGB.

For `_return_unchanged` and `_convert_by_pillow`, a transparent colour or palette entry is blended over white first.
Grey of 16 bits has been reduced to 8 bits before. Any other mode is refused."""
