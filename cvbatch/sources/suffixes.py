"""Which names are images."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cvbatch.sources.entries import readable_path

IMAGE_SUFFIXES = frozenset(
    "jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic heif jp2 mpo".split()  # noqa: SIM905 - reads as a table
)


class ImageSuffixes:
    """The suffixes that count as images, in any case.

    Args:
        extensions: Suffixes without dot, `any`, or None for the known image suffixes.
    """

    def __init__(self, extensions: str | Iterable[str] | None = None) -> None:
        self._taken: frozenset[str] | None = IMAGE_SUFFIXES
        if extensions == "any":
            self._taken = None
        elif extensions is not None:
            self._taken = frozenset(suffix.lower().lstrip(".") for suffix in extensions)

    def is_image(self, name: bytes) -> bool:
        """Whether a file of this name is an image."""
        return self._taken is None or suffix_of(name) in self._taken


def suffix_of(name: bytes) -> str:
    """The suffix of a name in lower case, without its dot."""
    return readable_path(os.path.splitext(name)[1]).lower().lstrip(".")


def skipped_kind(name: bytes) -> str:
    """What a file that is left out is counted as."""
    found = suffix_of(name)
    return f".{found}" if found else "no suffix"
