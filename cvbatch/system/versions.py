"""Versions of the packages that decide what comes out."""

from __future__ import annotations

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

_PACKAGES = ("cvbatch", "ray", "torch", "torchvision", "pyarrow", "pillow", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed; none of them is imported."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def package_requirement(package: str) -> Requirement:
    """Which versions of a package we need, as our own metadata say."""
    needed = map(Requirement, metadata.requires("cvbatch") or [])
    return next(each for each in needed if each.name == package)


def is_supported_version(package: str, version: str) -> bool:
    """Whether we can use a version of a package."""
    try:
        return package_requirement(package).specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def describe_unmet_requirement(package: str) -> str | None:
    """What is wrong with the version of a package that is installed, in words; None if nothing is."""
    version = metadata.version(package)
    if is_supported_version(package, version):
        return None
    return f"expected {package}{package_requirement(package).specifier}, {version} is installed"
