"""Convert samples of 8 bits to RGB: palettes, inks, L*a*b*, alpha over white."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag
from cvbatch.images.tiff.pixel_format import AlphaType, Photometric, PixelFormat


def compose_image(
    samples: npt.NDArray[Any], pixel_format: PixelFormat, directory: TiffDirectory, profile: bytes | None = None
) -> Image.Image:
    """Make an RGB image from samples.

    Args:
        samples: (height, width, samples), from `cvbatch.images.tiff.samples.read_samples`.
        pixel_format: Meaning of the samples.
        directory: Directory with the palette, if there is one.
        profile: ICC profile to convert the colours to sRGB with; None leaves the colours unchanged.

    Returns:
        RGB, blended over white.

    Raises:
        ImageError: `CorruptImage`, if a palette is incomplete; `UnsupportedImage`, for L*a*b* with premultiplied alpha.
    """
    colours, alpha = (samples, None) if pixel_format.alpha is None else (samples[..., :-1], samples[..., -1])
    if alpha is None:
        return convert_to_rgb(_samples_to_image(colours, pixel_format, directory), profile)
    if pixel_format.alpha == AlphaType.PREMULTIPLIED:
        if pixel_format.photometric in _ADDITIVE_PHOTOMETRICS and not profile:
            return convert_to_rgb(_to_grey_or_rgb(_premultiplied_over_white(colours, alpha)))
        colours = _to_straight_alpha(colours, alpha, pixel_format)
    image = _samples_to_image(colours, pixel_format, directory)
    if image.mode not in ("L", "RGB"):
        image, profile = convert_to_rgb(image, profile), None
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return convert_to_rgb(image, profile)


_ADDITIVE_PHOTOMETRICS = (Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO, Photometric.RGB, Photometric.YCBCR)


def _samples_to_image(colours: npt.NDArray[Any], pixel_format: PixelFormat, directory: TiffDirectory) -> Image.Image:
    if pixel_format.photometric == Photometric.PALETTE:
        return _array_to_pillow("RGB", _read_colour_map(directory, pixel_format.bits_per_sample)[colours[..., 0]])
    if pixel_format.photometric == Photometric.INKS:
        return _array_to_pillow("CMYK", colours)
    if pixel_format.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        # Pillow expects a* and b* as signed bytes.
        return _array_to_pillow("LAB", colours ^ np.array([0, 0x80, 0x80], np.uint8))
    return _to_grey_or_rgb(colours)


def _to_grey_or_rgb(colours: npt.NDArray[Any]) -> Image.Image:
    return _array_to_pillow("RGB", colours) if colours.shape[2] == 3 else _array_to_pillow("L", colours[..., 0])


def _array_to_pillow(mode: str, colours: npt.NDArray[Any]) -> Image.Image:
    height, width = colours.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(colours), "raw", mode, 0, 1)


def _read_colour_map(directory: TiffDirectory, bits: int) -> npt.NDArray[np.uint8]:
    entries = directory.get_integers(TiffTag.COLOR_MAP)
    if len(entries) < 3 << bits:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its palette is incomplete")
    colours = np.array(entries[: 3 << bits], np.uint32).reshape(3, -1).T
    # Some writers fill only 8 of the 16 bits; others store v * 256 or v * 257.
    return (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)


def _premultiplied_over_white(colours: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Blend colours that are already multiplied by alpha over white."""
    white_share = 255 - alpha[..., None]
    return np.where(colours > 255 - white_share, 255, colours + white_share).astype(np.uint8)


def _to_straight_alpha(
    colours: npt.NDArray[Any], alpha: npt.NDArray[Any], pixel_format: PixelFormat
) -> npt.NDArray[Any]:
    """Undo the multiplication of colours by alpha."""
    if pixel_format.photometric == Photometric.PALETTE:
        return colours
    if pixel_format.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        raise ImageError("UnsupportedImage", "cannot read a TIFF of L*a*b* colours multiplied by alpha; save it as RGB")
    divisor = np.maximum(alpha, 1)[..., None].astype(np.uint16)
    quotient = (colours.astype(np.uint16) * 255 + divisor // 2) // divisor
    straight: npt.NDArray[np.uint8] = np.minimum(quotient, 255).astype(np.uint8)
    return straight
