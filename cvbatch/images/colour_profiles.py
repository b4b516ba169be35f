"""Colours to sRGB by the ICC profile of an image, with Little CMS through Pillow; for `source.icc: convert`."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

from PIL import Image, ImageCms

from cvbatch.images.formats import MALFORMED_ERRORS

_MAX_CACHED_TRANSFORMS: Final = 16
"""Profiles whose transforms are kept: an archive has a few, each in thousands of images."""
_MAX_PROFILE_BYTES: Final = 4 << 20
"""Bytes of a profile; those of printers have up to 3 MB."""
_OPAQUE_MODES: Final = {"RGB": "RGB", "RGBX": "RGB", "L": "L", "CMYK": "CMYK", "LAB": "LAB", "1": "L"}
"""What a mode is brought to before its colours are."""


def convert_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring the colours of an image to sRGB, relative to its white, with compensation of its black.

    A profile that cannot be read, or that is of another kind of colours than the image, leaves it as it is.

    Args:
        image: 8 bits a channel; transparency stays.
        profile: An ICC profile.

    Returns:
        RGB or RGBA; the image itself where the profile does not help.
    """
    alpha = None
    if image.has_transparency_data or image.mode == "PA":
        grey = image.mode in ("L", "LA", "1")
        image, untouched = image.convert("LA" if grey else "RGBA"), image
        image, alpha = image.convert("L" if grey else "RGB"), image.getchannel("A")
    else:
        untouched = image
        mode = "RGB" if image.mode == "P" else _OPAQUE_MODES.get(image.mode)
        if mode is None:
            return untouched
        image = image if image.mode == mode else image.convert(mode)
    transform = _build_srgb_transform(profile, image.mode) if len(profile) <= _MAX_PROFILE_BYTES else None
    if transform is None:
        return untouched
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        return untouched
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info.pop("transparency", None)
    return converted


def may_have_profile(jpeg: bytes) -> bool:
    """Whether a JPEG has a profile, or a thumbnail that has one."""
    return b"ICC_PROFILE\0" in jpeg


@lru_cache(maxsize=_MAX_CACHED_TRANSFORMS)
def _build_srgb_transform(source_profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB for images of a mode; None if that cannot be."""
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
