"""Loaded images of any mode to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colour_profiles import convert_to_srgb


def convert_to_rgb(image: Image.Image, profile: object = None) -> Image.Image:
    """Bring a loaded image of any mode to 8-bit RGB, by the table below.

    Args:
        image: With what its file says of transparency.
        profile: The ICC profile that its colours are brought to sRGB by; None leaves them.

    Raises:
        ImageError: `UnsupportedImage`, where no meaning of the numbers as colours is agreed on.
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
    # Rounded to the nearest without ever leaving 16 bits.
    quotient, rest = np.divmod(grey, np.uint16(257))
    small = (quotient + (rest > 128)).astype(np.uint8)
    if "transparency" in image.info:
        small[grey == image.info["transparency"]] = 255
    return Image.fromarray(small)


def _convert_in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a large image piece by piece, so that only its result takes memory."""
    rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= rows:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        whole.paste(convert(image.crop(box)), box)
    return whole


def _refuse_mode(image: Image.Image) -> Image.Image:
    name = {"F": "floating-point numbers", "I": "32-bit integers"}.get(image.mode, f"samples of kind {image.mode}")
    reason = "nothing says which of them is black and which white"
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

`_return_unchanged` and `_convert_by_pillow` put white behind a transparent colour or palette entry. Grey of 16 bits is
reduced to 8 bits before. Any other mode is refused."""
