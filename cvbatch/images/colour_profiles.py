"""Convert colours to sRGB by an ICC profile, with Little CMS through Pillow; for `source.icc: convert`."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

from PIL import Image, ImageCms

from cvbatch.images.formats import MALFORMED_ERRORS

_MAX_CACHED_TRANSFORMS: Final = 16
"""An archive has a few profiles, each in thousands of images."""
_MAX_PROFILE_BYTES: Final = 4 << 20
"""Printer profiles have up to 3 MB."""
_OPAQUE_MODES: Final = {"RGB": "RGB", "RGBX": "RGB", "L": "L", "CMYK": "CMYK", "LAB": "LAB", "1": "L"}
"""Mode that an image is converted to before its colours are converted."""


def convert_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert the colours of an image to sRGB: relative colorimetric, with black point compensation.

    If the profile cannot be read, or is for another kind of colours, the image is returned unchanged.

    Args:
        image: 8 bits per channel; its transparency is preserved.
        profile: An ICC profile.

    Returns:
        RGB or RGBA; the image itself if the profile cannot be used.
    """
    alpha = None
    if image.has_transparency_data or image.mode == "PA":
        is_grey = image.mode in ("L", "LA", "1")
        image, original = image.convert("LA" if is_grey else "RGBA"), image
        image, alpha = image.convert("L" if is_grey else "RGB"), image.getchannel("A")
    else:
        original = image
        mode = "RGB" if image.mode == "P" else _OPAQUE_MODES.get(image.mode)
        if mode is None:
            return original
        image = image if image.mode == mode else image.convert(mode)
    transform = _build_srgb_transform(profile, image.mode) if len(profile) <= _MAX_PROFILE_BYTES else None
    if transform is None:
        return original
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        return original
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info.pop("transparency", None)
    return converted


def may_have_profile(jpeg: bytes) -> bool:
    """Whether a JPEG, or a thumbnail in it, has a profile."""
    return b"ICC_PROFILE\0" in jpeg


@lru_cache(maxsize=_MAX_CACHED_TRANSFORMS)
def _build_srgb_transform(source_profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform from a profile to sRGB for images of a mode; None if there is none."""
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(source_profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (*MALFORMED_ERRORS, ImageCms.PyCMSError):
        return None
