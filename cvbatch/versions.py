"""Versions of the packages that decide what comes out."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("cvbatch", "ray", "torch", "torchvision", "pyarrow", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed; none of them is imported."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
