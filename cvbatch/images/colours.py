"""Loaded images of any mode to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colour_profiles import to_srgb


def to_rgb(image: Image.Image, profile: object = None) -> Image.Image:
    """Bring a loaded image of any mode to 8-bit RGB, by the table below.

    Args:
        image: With what its file says of transparency.
        profile: The ICC profile that its colours are brought to sRGB by; None leaves them.

    Raises:
        ImageError: `UnsupportedImage`, where no meaning of the numbers as colours is agreed on.
    """
    if image.mode in _GREY_16:
        image = _in_bands(image, "L", _grey8)
    if isinstance(profile, bytes) and profile:
        image = to_srgb(image, profile)
    convert = _TO_RGB.get(image.mode, _refuse)
    if image.has_transparency_data and convert in (_keep, _by_pillow):
        convert = _over_white
    return convert(image)


def _keep(image: Image.Image) -> Image.Image:
    return image


def _by_pillow(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    return _in_bands(image, "RGB", _composed)


def _composed(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _grey8(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.uint16)
    # Rounded to the nearest without ever leaving 16 bits.
    quotient, rest = np.divmod(grey, np.uint16(257))
    small = (quotient + (rest > 128)).astype(np.uint8)
    if "transparency" in image.info:
        small[grey == image.info["transparency"]] = 255
    return Image.fromarray(small)


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a large image piece by piece, so that only its result takes memory."""
    rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= rows:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        whole.paste(convert(image.crop(box)), box)
    return whole


def _refuse(image: Image.Image) -> Image.Image:
    name = {"F": "floating-point numbers", "I": "32-bit integers"}.get(image.mode, f"samples of kind {image.mode}")
    reason = "nothing says which of them is black and which white"
    raise ImageError("UnsupportedImage", f"cannot read an image of {name}: {reason}; save it with 8 or 16 bits")


_GREY_16: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_BAND_PIXELS: Final = 1 << 20
_TO_RGB: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "RGB": _keep,
    "L": _by_pillow,
    "1": _by_pillow,
    "P": _by_pillow,
    "RGBX": _by_pillow,
    "CMYK": _by_pillow,
    "YCbCr": _by_pillow,
    "LAB": _by_pillow,
    "HSV": _by_pillow,
    "LA": _over_white,
    "PA": _over_white,
    "RGBA": _over_white,
    "RGBa": _over_white,
}
"""Pillow's mode of a file and what becomes of it; `_keep` and `_by_pillow` go over white where a colour or a
palette entry is transparent. Grey of 16 bits is brought to 8 before. Anything else is refused."""
