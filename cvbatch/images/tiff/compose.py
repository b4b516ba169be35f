"""Samples of 8 bits to RGB: palettes, inks, L*a*b*, alpha over white."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import to_rgb
from cvbatch.images.tiff.directory import Directory, Tag
from cvbatch.images.tiff.meaning import Alpha, Meaning, Photometric


def compose(
    samples: npt.NDArray[Any], meaning: Meaning, directory: Directory, profile: bytes | None = None
) -> Image.Image:
    """Make a picture of samples.

    Args:
        samples: (height, width, samples), as `cvbatch.images.tiff.samples.read_samples` gives them.
        meaning: What they are.
        directory: With the palette, if there is one.
        profile: The ICC profile that its colours are brought to sRGB by; None leaves them.

    Returns:
        RGB, with alpha laid over white.

    Raises:
        ImageError: `CorruptImage`, where a palette is not whole.
    """
    colours, alpha = (samples, None) if meaning.alpha is None else (samples[..., :-1], samples[..., -1])
    if alpha is None:
        return to_rgb(_coloured(colours, meaning, directory), profile)
    if meaning.alpha == Alpha.PREMULTIPLIED:
        if meaning.photometric in _ADDITIVE and not profile:
            return to_rgb(_additive(_onto_white(colours, alpha)))
        colours = _straight(colours, alpha, meaning)
    image = _coloured(colours, meaning, directory)
    if image.mode not in ("L", "RGB"):
        image, profile = to_rgb(image, profile), None
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return to_rgb(image, profile)


_ADDITIVE = (Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO, Photometric.RGB, Photometric.YCBCR)


def _coloured(colours: npt.NDArray[Any], meaning: Meaning, directory: Directory) -> Image.Image:
    if meaning.photometric == Photometric.PALETTE:
        return _pillow("RGB", _palette(directory, meaning.bits)[colours[..., 0]])
    if meaning.photometric == Photometric.INKS:
        return _pillow("CMYK", colours)
    if meaning.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        # Pillow takes both colours with a sign from outside.
        return _pillow("LAB", colours ^ np.array([0, 0x80, 0x80], np.uint8))
    return _additive(colours)


def _additive(colours: npt.NDArray[Any]) -> Image.Image:
    return _pillow("RGB", colours) if colours.shape[2] == 3 else _pillow("L", colours[..., 0])


def _pillow(mode: str, colours: npt.NDArray[Any]) -> Image.Image:
    height, width = colours.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(colours), "raw", mode, 0, 1)


def _palette(directory: Directory, bits: int) -> npt.NDArray[np.uint8]:
    told = directory.numbers(Tag.COLOR_MAP)
    if len(told) < 3 << bits:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its palette is not all there")
    colours = np.array(told[: 3 << bits], np.uint32).reshape(3, -1).T
    # Some writers fill 8 of the 16 bits only; those that fill all take v * 256 or v * 257.
    return (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)


def _onto_white(colours: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours that are multiplied by alpha already: what is missing to full is white."""
    rest = 255 - alpha[..., None]
    return np.where(colours > 255 - rest, 255, colours + rest).astype(np.uint8)


def _straight(colours: npt.NDArray[Any], alpha: npt.NDArray[Any], meaning: Meaning) -> npt.NDArray[Any]:
    """Colours before they were multiplied by alpha."""
    if meaning.photometric == Photometric.PALETTE:
        return colours
    if meaning.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        raise ImageError("UnsupportedImage", "cannot read a TIFF of L*a*b* colours times alpha; save it as RGB")
    share = np.maximum(alpha, 1)[..., None].astype(np.uint16)
    full = (colours.astype(np.uint16) * 255 + share // 2) // share
    straight: npt.NDArray[np.uint8] = np.minimum(full, 255).astype(np.uint8)
    return straight
