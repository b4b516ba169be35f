"""Which options of a job are part of its identity: what must be equal for two attempts to be the same run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from cvbatch.config.compute import ConfigSection
from cvbatch.storage.options import OPTION_NAMES

OF_ALL_SOURCES: Final = ("uri", "extensions", "exif", "rename", "max_pixels")
OF_ALL_MODELS: Final = (
    "model",
    "alias",
    "task",
    "weights",
    "checkpoint",
    "categories",
    "background",
    "sha256",
    "seed",
    "top_k",
    "score_threshold",
    "normalize",
    "dtype",
    "options",
)
"""Options that are part of every identity. Later options are part of it only if they differ from their defaults, so
that a new option does not change existing runs; never add a name here."""
CHANGEABLE_SOURCE_OPTIONS: Final = ("limit", "http_hosts", "http_private", *OPTION_NAMES)
"""Options that another attempt of the same run may change."""
SECTIONS: Final = ("source", "models", "compute", "output")
"""Of `compute` and `output`, only the precision is part of the identity: another attempt may run elsewhere."""


def identity_of_section(section: ConfigSection, always: Collection[str], never: Collection[str]) -> dict[str, Any]:
    """Return the options of a section in an identity: those in `always`, and others that differ from their defaults."""
    values, defaults = section.model_dump(mode="json", exclude=set(never)), defaults_of_section(section, never)
    return {name: value for name, value in values.items() if name in always or value != defaults.get(name)}


def defaults_of_section(section: ConfigSection, never: Collection[str]) -> dict[str, Any]:
    """Return the defaults of a section as plain data, without the options in `never`."""
    return type(section).model_construct().model_dump(mode="json", exclude=set(never))
