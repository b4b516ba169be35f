"""Versions of the packages that influence predictions."""

from __future__ import annotations

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

_PACKAGES = ("cvbatch", "ray", "torch", "torchvision", "pyarrow", "pillow", "numpy", "onnxruntime", "timm")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of installed packages without importing them."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def package_requirement(package: str) -> Requirement:
    """Return the required versions of a package from this package's metadata."""
    requirements = map(Requirement, metadata.requires("cvbatch") or [])
    return next(requirement for requirement in requirements if requirement.name == package)


def is_supported_version(package: str, version: str) -> bool:
    """Whether a version of a package meets the requirement."""
    try:
        return package_requirement(package).specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def describe_unmet_requirement(package: str) -> str | None:
    """Return a phrase that says why the installed version of a package is unsupported; None if it is supported."""
    version = metadata.version(package)
    if is_supported_version(package, version):
        return None
    return f"expected {package}{package_requirement(package).specifier}, {version} is installed"
