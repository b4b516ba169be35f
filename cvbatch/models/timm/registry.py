"""All models that the installed timm knows, read once for each version of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final

from cvbatch.config.model_files import TIMM
from cvbatch.errors import UsageError
from cvbatch.models.child_process import ask_child
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, lock_cache_file

_READER: Final = "cvbatch.inference.torch.timm_registry"
_FOLDER: Final = "timm"
_FORMAT: Final = 1
"""Raised if the content of the file changes."""


@dataclass(frozen=True, slots=True)
class TimmRegistry:
    """What timm says of its models."""

    architectures: frozenset[str]
    """Names without tags."""
    settings: Mapping[str, Mapping[str, Any]]
    """`PretrainedCfg` by the name of a model with its tag, and without it for the default one."""
    category_sets: Mapping[str, Sequence[str]]
    """Names of classes by the name of the set, such as `imagenet-12k`."""
    sets_by_count: Mapping[int, str]
    """The set that timm supposes by the number of classes."""


@cache
def timm_registry() -> TimmRegistry:
    """The registry of the installed timm; reading it takes seconds the first time.

    Raises:
        UsageError: timm is not installed.
        ModelError: It cannot be imported.
    """
    try:
        versions = {package: metadata.version(package) for package in ("timm", "torch")}
    except metadata.PackageNotFoundError:
        raise UsageError(f"a model `{TIMM}:` needs timm: pip install 'cvbatch[timm]'") from None
    file = cache_file_path(_FOLDER, {**versions, "format": _FORMAT}, ".json")
    with lock_cache_file(file):
        if not file.is_file():
            content = ask_child(_READER, (), "timm")
            with atomic_write_path(file) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
    content = json.loads(file.read_text(encoding="utf-8"))
    return TimmRegistry(
        architectures=frozenset(content["architectures"]),
        settings=content["settings"],
        category_sets=content["category_sets"],
        sets_by_count={int(count): name for count, name in content["sets_by_count"].items()},
    )
