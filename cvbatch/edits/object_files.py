"""Names and formats of files that show one object each."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image

from cvbatch.edits.base import OriginalImage

FILE_FORMATS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
}
"""Pillow's name and options, by extension."""
_LONGEST_LABEL: Final = 100


def object_paths(image: OriginalImage, extension: str) -> list[str]:
    """Paths of the files of all objects of an image; see `object_path`."""
    return [object_path(found.label, image.path, number, extension) for number, found in enumerate(image.objects)]


def object_path(label: str, image_path: str, number: int, extension: str) -> str:
    """Path of the file of one object, in a folder of its class.

    The whole name of the image is in it, so that no two images share a file.

    Args:
        label: Name of the class; what cannot be in the name of a folder becomes `_`.
        image_path: Relative path of the image.
        number: Which object of the image.
        extension: Without a dot.
    """
    folder = "".join("_" if letter in '/\\:*?"<>|' or ord(letter) < 32 else letter for letter in label.strip())
    folder = folder.encode()[:_LONGEST_LABEL].decode(errors="ignore")
    folder = f"_{folder.lstrip('.')}" if folder.startswith((".", "_audit")) or not folder else folder
    return f"{folder}/{image_path}-{number}.{extension}"


def encode_object(image: Image.Image, extension: str) -> bytes:
    """Encode a picture of one object.

    Args:
        image: RGB or RGBA.
        extension: A key of `FILE_FORMATS`.
    """
    file, (name, options) = io.BytesIO(), FILE_FORMATS[extension]
    image.save(file, name, **options)
    return file.getvalue()
