"""Suffixes of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cvbatch.sources.entries import readable_path

IMAGE_SUFFIXES = frozenset(
    "jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic heif jp2 mpo".split()  # noqa: SIM905 - reads as a table
)


class ImageSuffixes:
    """Suffixes that count as images, case-insensitive.

    Args:
        extensions: Suffixes without dot, `any`, or None for the known image suffixes.
    """

    def __init__(self, extensions: str | Iterable[str] | None = None) -> None:
        self._accepted: frozenset[str] | None = IMAGE_SUFFIXES
        if extensions == "any":
            self._accepted = None
        elif extensions is not None:
            self._accepted = frozenset(suffix.lower().lstrip(".") for suffix in extensions)

    def is_image(self, name: bytes) -> bool:
        """Whether a file of this name is an image."""
        return self._accepted is None or suffix_of(name) in self._accepted


def suffix_of(name: bytes) -> str:
    """Suffix of a name in lower case, without the dot."""
    return readable_path(os.path.splitext(name)[1]).lower().lstrip(".")


def skipped_kind(name: bytes) -> str:
    """Reason under which a file with another suffix is counted."""
    suffix = suffix_of(name)
    return f".{suffix}" if suffix else "no suffix"
